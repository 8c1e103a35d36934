"""torchattacks by name: within the rules, and the same figures as when called directly."""

import pytest
import torch
import torchattacks

from attacks import AttackError, Threat, build
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
    assert found.correct[0].equal(right)


@pytest.mark.parametrize("name", ["APGD", "APGDT", "FAB", "Square", "Jitter", "PGDRS", "VMIFGSM"])
def test_attacks_and_keeps_to_the_threat(digits, name):
    found = figures(digits, name, count=20)
    clean = digits[0](digits[1][:20]).argmax(-1) == digits[2][:20]
    assert float(found.robust_accuracy) < float(clean.float().mean())
    assert (THREAT.distance(found.images, digits[1][None, :20]) <= 0.06 + 1e-6).all()


@pytest.mark.parametrize("name", ["DeepFool", "CW", "PGDL2"])
@pytest.mark.filterwarnings("ignore:torchattacks")
def test_in_l2(digits, name):
    threat = Threat("l2", 0.4)
    found = figures(digits, name, threat, count=10)
    assert (threat.distance(found.images, digits[1][None, :10]) <= 0.4 + 1e-6).all()
    if name == "CW":  # stops by a sum over the batch, so that its results depend on it elsewhere
        assert found.correct[0, :5].equal(figures(digits, name, threat, count=5).correct[0])


def test_defects_are_said(digits):
    with pytest.warns(UserWarning, match="cannot move pixels that are exactly 0 or 1; cw can"):
        figures(digits, "CW", Threat("l2", 0.1), count=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MIFGSMM", "unknown attack of torchattacks 'MIFGSMM': did you mean 'MIFGSM'"),
        (
            "AutoAttack",
            "is refused: it runs at a tenth of AutoAttack's steps; use --suite standard",
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
