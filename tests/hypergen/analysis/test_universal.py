"""Universal perturbations between groups, against closed forms of linear networks."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import attacks
from hypergen.analysis.universal import (
    RADIUS,
    UniversalPerturbations,
    _tried,
    fitted,
    random_perturbations,
)
from hypergen.runtime.progress import SILENT
from tests.hypergen.analysis.scene import context, networks, relu_net

SHAPE = 1, 6, 6
ANALYSIS = UniversalPerturbations()


def two_classes(seed: int = 0) -> nn.Module:
    """Logits w x and -w x of pixels that lie in the middle of [0, 1]."""

    class Linear(nn.Module):
        def __init__(self):
            super().__init__()
            rng = torch.Generator().manual_seed(seed)
            self.weight = nn.Parameter(torch.randn(36, generator=rng))

        def forward(self, images):
            value = (images.flatten(1) - 0.5) @ self.weight
            return torch.stack([value, -value], 1)

    return Linear()


def in_the_middle(module: nn.Module, count: int = 40, epsilon: float = 0.02, classes: int = 2):
    """Images far from 0 and 1, labelled as the network sees them."""
    scene = context(classes=classes, count=count, epsilon=epsilon)
    images = 0.4 + 0.2 * scene.dataset.test.images
    part = replace(scene.dataset.test, images=images, labels=module(images).argmax(1))
    return replace(scene, dataset=replace(scene.dataset, train=part, test=part))


def test_a_linear_network_is_fooled_by_the_sign_of_its_weights():
    """The best perturbation there is fools one whole class of images that are near enough."""
    module = two_classes()
    scene = in_the_middle(module)
    group = replace(networks(two_classes, 1), population=networks(lambda: module, 1).population)
    radius = RADIUS * scene.threat.epsilon
    (perturbation,) = fitted(group.population, scene)
    weight = module.weight.detach().view(SHAPE)
    direction = torch.sign((perturbation * weight).sum())
    torch.testing.assert_close(perturbation, direction * radius * weight.sign())
    images, labels = scene.images()
    values = (images.flatten(1) - 0.5) @ module.weight.detach()
    shift = direction * radius * weight.abs().sum()
    crossed = (values > 0) != (values + shift > 0)
    (row,) = ANALYSIS.rows(group, scene, SILENT)
    assert row["own"] == pytest.approx(float(crossed.double().mean()))
    assert 0.1 < row["own"] < 0.9
    assert row["same_class"] == 1  # of two classes, the one it points to
    assert row["mates"] is None and row["strangers"] is None
    assert row["random"] < row["own"]


def test_no_perturbation_fools_nothing():
    group = networks(relu_net)
    (one, two) = _tried(group, {"sample": torch.zeros(2, *SHAPE)}, context())
    assert one["own"] == two["own"] == one["mates"] == 0 and one["same_class"] is None


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_perturbations_lie_in_the_ball_and_noise_on_its_surface(norm):
    scene = context(epsilon=0.1)
    scene = replace(scene, threat=attacks.Threat(norm, 0.1))
    made = fitted(networks(relu_net).population, scene)
    assert made.shape == (2, *SHAPE)
    radius = RADIUS * 0.1
    assert (scene.threat.length(made) <= radius * (1 + 1e-5)).all()
    noise = random_perturbations(scene, 3)
    torch.testing.assert_close(scene.threat.length(noise), torch.full((3,), radius))


def test_a_perturbation_is_fitted_once_for_all_analyses():
    """Those of one context, that is: with another threat it is another."""
    population, scene = networks(relu_net).population, context(epsilon=0.1)
    made = fitted(population, scene)
    assert fitted(population, scene) is made
    wider = fitted(population, replace(scene, threat=attacks.Threat("linf", 0.2)))
    assert float(wider.abs().max()) > float(made.abs().max())


def test_groups_of_other_architectures_are_tried_on_each_other():
    """Every rate, counted by plain modules one after the other."""
    one, other = networks(relu_net, 2), networks(lambda: relu_net(width=5), 1, "fbf")
    scene = context(count=30, epsilon=0.1)
    found = ANALYSIS.run([one, other], scene, SILENT)
    assert [(row["group"], row["network"]) for row in found.rows] == [
        ("sample", 0),
        ("sample", 1),
        ("fbf", 0),
    ]
    made = {group.name: fitted(group.population, scene) for group in (one, other)}
    images, _ = scene.images()

    def rate(module, perturbation):
        moved = module((images + perturbation).clamp(0, 1)).argmax(1)
        return float((moved != module(images).argmax(1)).double().mean())

    modules = [*one.population, *other.population]
    for row, module, own in zip(found.rows, modules, (0, 1, 0), strict=True):
        assert row["own"] == pytest.approx(rate(module, made[row["group"]][own]))
        noise = random_perturbations(scene, 5)
        expected = sum(rate(module, each) for each in noise) / 5
        assert row["random"] == pytest.approx(expected)
    assert found.rows[0]["mates"] == pytest.approx(rate(modules[0], made["sample"][1]))
    assert found.rows[2]["mates"] is None
    across = sum(rate(modules[2], each) for each in made["sample"]) / 2
    assert found.rows[2]["strangers"] == pytest.approx(across)
    json.dumps(found.rows, allow_nan=False)
    matrix = found.figure.axes[0]
    assert [text.get_text() for text in matrix.get_yticklabels()] == ["sample", "fbf", "random"]


def test_a_sick_group_costs_the_others_nothing():
    sick = networks(relu_net, 1, "fbf")
    population = sick.population.with_theta(torch.full_like(sick.population.theta, torch.nan))
    sick = replace(sick, population=population)
    found = ANALYSIS.run([sick, networks(relu_net, 1)], context(), SILENT)
    assert [row["group"] for row in found.rows] == ["sample"]
    assert "NaN" in found.skipped["fbf"] and "fbf" not in found.rows[0]["by_others"]


def test_a_packed_network_is_looked_at_as_alone():
    group, scene = networks(relu_net, 3), context(epsilon=0.1)
    rows = ANALYSIS.rows(group, scene, SILENT)
    alone = replace(group, population=group.population[2:])
    (row,) = ANALYSIS.rows(alone, scene, SILENT)
    assert row["own"] == rows[2]["own"] and row["random"] == rows[2]["random"]
