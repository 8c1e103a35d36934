"""torchattacks by name: within the rules, and the same figures as when called directly."""

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partialmethod
from importlib.metadata import version

import numpy as np
import pytest
import torch
import torchattacks

from attacks import AttackError, Threat, build
from attacks.external import Torchattacks
from tests.attacks import conformance

THREAT = Threat("linf", 0.06)


def figures(digits, name: str, threat: Threat = THREAT, count: int = 40):
    net, images, labels = digits
    attack = build(f"torchattacks:{name}", threat)
    return attack(lambda x: net(x[0])[None], images[None, :count], labels[:count], [0])


@pytest.mark.parametrize("name", ["FGSM", "PGD"])
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conforms(name, check, device):
    check(lambda threat: build(f"torchattacks:{name}", threat), device)


@pytest.mark.parametrize("name", ["FGSM", "BIM", "MIFGSM", "NIFGSM", "TPGD", "UPGD", "EOTPGD"])
@pytest.mark.filterwarnings("ignore:torchattacks")
def test_equals_a_direct_call(digits, name):
    net, images, labels = digits[0], digits[1][:40], digits[2][:40]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        options = {} if name == "FGSM" else {"alpha": THREAT.epsilon / 4}
        expected = getattr(torchattacks, name)(net, eps=THREAT.epsilon, **options)(images, labels)
    found = figures(digits, name)
    right = (net(images).argmax(-1) == labels) & (net(expected).argmax(-1) == labels)
    assert found.robust_mask[0].equal(right)


@pytest.mark.parametrize("name", ["APGD", "APGDT", "FAB", "Square", "Jitter", "PGDRS", "VMIFGSM"])
def test_attacks_and_keeps_to_the_threat(digits, name, monkeypatch):
    if name == "Square":  # by default 5000
        few = partialmethod(torchattacks.Square.__init__, n_queries=100)
        monkeypatch.setattr(torchattacks.Square, "__init__", few)
    found = figures(digits, name, count=20)
    clean = digits[0](digits[1][:20]).argmax(-1) == digits[2][:20]
    assert float(found.robust_accuracy) < float(clean.float().mean())
    assert (THREAT.distance(found.images, digits[1][None, :20]) <= 0.06 + 1e-6).all()


@pytest.mark.parametrize("name", ["DeepFool", "CW", "PGDL2"])
@pytest.mark.filterwarnings("ignore:torchattacks")
def test_in_l2(digits, name):
    threat = Threat("l2", 0.4)
    found = figures(digits, name, threat, count=6)
    assert (threat.distance(found.images, digits[1][None, :6]) <= 0.4 + 1e-6).all()
    if name == "CW":  # stops by a sum over the batch, so that its results depend on it elsewhere
        assert found.robust_mask[0, :3].equal(figures(digits, name, threat, count=3).robust_mask[0])


def test_two_threads_neither_lose_output_nor_share_random_numbers(digits):
    alone, state, out = figures(digits, "PGD"), torch.get_rng_state(), sys.stdout
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda _: figures(digits, "PGD"), range(8)):
            assert result.images.equal(alone.images)
    assert sys.stdout is out and torch.get_rng_state().equal(state)


@pytest.mark.parametrize(("name", "norm"), [("APGD", "linf"), ("Pixle", "l1"), ("OnePixel", "l1")])
def test_those_that_draw_or_seed_in_ways_of_their_own(digits, name, norm):
    net, images, labels = digits[0], digits[1][:5], digits[2][:5]
    attack = build(f"torchattacks:{name}", Threat(norm, {"linf": 0.2, "l1": 3.0}[norm]))
    assert isinstance(attack, Torchattacks)
    np.random.seed(7)
    expected = np.random.RandomState(7).random_sample()
    first, again, other = (attack._perturbed(net, images, labels, 10, seed) for seed in (0, 0, 1))
    assert first.equal(again) and not first.equal(other)
    assert np.random.random() == expected


def test_fewer_classes_than_ten():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 5))
    images = torch.rand(4, 1, 8, 8)
    found = build("torchattacks:APGDT", THREAT)(
        lambda x: net(x[0])[None], images[None], net(images).argmax(1), [0]
    )
    assert not found.robust_mask.all()


def test_the_radius_that_has_another_name(digits):
    attack = build("torchattacks:PIFGSM", THREAT)
    assert isinstance(attack, Torchattacks)
    images = torch.rand(1, 4, 3, 8, 8) * 0.8 + 0.1  # of one channel it fails
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 10))
    points = attack._perturbed(net, images[0], net(images[0]).argmax(-1), 10, 0)
    assert float((points - images[0]).abs().max()) == pytest.approx(THREAT.epsilon, abs=1e-6)
    with pytest.raises(AttackError, match="linf"):
        build("torchattacks:PIFGSM", Threat("l2", 1.0))


def test_options_are_refused():
    with pytest.raises(AttackError, match="takes no options here, got steps"):
        build("torchattacks:PGD", THREAT, steps=100)


def test_defects_are_shown(digits):
    with pytest.warns(UserWarning, match="cannot move pixels that are exactly 0 or 1; cw can"):
        figures(digits, "CW", Threat("l2", 0.1), count=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MIFGSMM", "unknown attack of torchattacks 'MIFGSMM'; known: .*MIFGSM"),
        (
            "AutoAttack",
            "is refused: it runs at a tenth of AutoAttack's steps; use standard",
        ),
    ],
)
def test_names_that_are_refused(name, message):
    with pytest.raises(AttackError, match=message):
        build(f"torchattacks:{name}", THREAT)


@pytest.mark.parametrize(("name", "norm"), [("FAB", "l1"), ("PGD", "l2"), ("PGDL2", "l1")])
def test_norms_that_are_refused(name, norm):
    with pytest.raises(AttackError, match=f"^torchattacks:{name} knows .* only, got '{norm}'$"):
        build(f"torchattacks:{name}", Threat(norm, 0.1))


def test_without_the_package_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchattacks", None)
    with pytest.raises(AttackError, match="pip install --no-deps torchattacks") as caught:
        build("torchattacks:PGD", THREAT)
    assert "\n" not in str(caught.value)


def test_works_with_a_requests_whose_holes_are_mended(digits):
    """torchattacks pins 2.25; the override in pyproject.toml is what this test runs under."""
    assert tuple(map(int, version("requests").split(".")[:2])) >= (2, 32)
    assert 0 <= float(figures(digits, "FGSM", count=10).robust_accuracy) <= 1
