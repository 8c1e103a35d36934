"""`attacks.attack`: one network, no axis of networks."""

import doctest

import numpy as np
import pytest
import torch
from torch import nn

import attacks
from attacks import PGD, AttackError, Noise, Threat, attack, build
from attacks import base as attacks_base
from attacks import single as attacks_single
from tests.attacks.conformance import Loop, network, problem


@pytest.mark.parametrize("module", [attacks, attacks_base, attacks_single])
def test_examples_run(module):
    with torch.random.fork_rng():
        failed, tried = doctest.testmod(module)
    assert failed == 0 < tried


@pytest.mark.parametrize(
    ("name", "options"),
    [("pgd", {"steps": 5}), ("quick", {"steps": 4, "queries": 30}), ("torchattacks:FGSM", {})],
)
def test_is_the_attack_on_a_population_of_one(name, options):
    _, images, labels = problem(1, 20)
    net, threat = network(0), Threat("linf", 0.02)
    expected = build(name, threat, **options)(Loop([net]), images, labels, [3])
    found = attack(name, net, images[0], labels[0], epsilon=0.02, seed=3, **options)
    assert torch.equal(found.images, expected.images[0])
    assert torch.equal(found.robust_mask, expected.robust_mask[0])
    assert found.masks.keys() == expected.masks.keys()
    assert all(torch.equal(found.masks[key], expected.masks[key][0]) for key in found.masks)
    assert found.robust_accuracy.shape == () and 0 < float(found.robust_accuracy) < 1


def test_takes_an_attack_object_arrays_and_lists():
    _, images, labels = problem(1, 6)
    pgd = PGD(Threat("l2", 0.1), steps=5)
    expected = attack("pgd", network(0), images[0], labels[0], norm="l2", epsilon=0.1, steps=5)
    found = attack(pgd, network(0), images[0].numpy(), labels[0].tolist())
    assert torch.equal(found.images, expected.images)


def test_leaves_a_module_in_its_mode_and_without_gradients():
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(36, 5))
    with torch.no_grad():
        attack("pgd", net, torch.rand(4, 1, 6, 6), [0, 1, 2, 3], epsilon=0.1, steps=2)
    assert net.training and all(module.training for module in net)
    assert all(parameter.grad is None for parameter in net.parameters())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("pgd", {"epsilon": None}, "expected an epsilon"),
        ("pgd", {"epsilon": -1}, "expected a finite epsilon >= 0, got -1"),
        ("pgd", {"norm": "l3"}, "unknown norm 'l3'; known: linf, l2, l1"),
        ("pdg", {}, "unknown attack 'pdg'; known: fgsm"),
        ("pgd", {"stepps": 3}, "unknown option of pgd 'stepps'"),
        ("pgd", {"seed": 0.5}, "expected seeds, one whole number"),
        (Noise(Threat("linf", 0.1)), {}, "noise-uniform has its own norm, epsilon and options"),
        (Noise(Threat("linf", 0.1)), {"epsilon": None, "norm": "linf"}, "has its own norm"),
        (Noise(Threat("linf", 0.1)), {"epsilon": None, "draws": 3}, "has its own norm"),
        ("pgd", {"images": np.zeros((1, 3, 1, 6, 6))}, r"expected images \[B,C,H,W\], none empty"),
        ("pgd", {"images": np.zeros((0, 1, 6, 6))}, r"got \[0, 1, 6, 6\]"),
        ("pgd", {"labels": [[0, 0, 0]]}, r"expected labels \[3\], got \[1, 3\]"),
        ("pgd", {"labels": [0, 0, 5]}, "expected labels below the model's 5 classes, got 5"),
        ("pgd", {"network": lambda x: (x, x)}, "to return logits as one tensor, got tuple"),
        ("pgd", {"network": lambda x: x.sum((1, 2, 3))}, r"expected logits \[3, K\] .*, got \[3\]"),
    ],
)
def test_bad_use(name, changes, message):
    given = {"network": network(0), "images": torch.zeros(3, 1, 6, 6), "labels": [0, 0, 0]}
    options = {"epsilon": 0.1, **given, **changes}
    with pytest.raises(AttackError, match=message):
        attack(name, **options)


@pytest.mark.parametrize("name", [3, None, b"pgd", PGD, [["pgd"], ["fgsm"]]])
def test_a_name_is_a_text(name):
    with pytest.raises(AttackError, match="expected an attack's name, or an Attack, got"):
        attack(name, network(0), torch.rand(1, 1, 6, 6), [0], epsilon=0.1)


def test_a_network_is_called(monkeypatch):
    with pytest.raises(AttackError, match="expected a network that is called with images"):
        attack("pgd", "mlp", torch.rand(1, 1, 6, 6), [0], epsilon=0.1)  # pyright: ignore


def test_messages_are_one_line():
    """Whatever stands where a name or a number should: arrays and modules print as several."""
    for value in (np.eye(3), nn.Sequential(nn.ReLU()), "a\nb", [1] * 1000):
        for make in (Threat, lambda norm, epsilon: Threat("linf", norm)):
            with pytest.raises(AttackError) as raised:
                make(value, 0.1)
            assert "\n" not in str(raised.value) and len(str(raised.value)) < 200
