"""The detector, the attack that knows it, and the rows and picture of the analysis."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

import attacks
from attacks import PerNetworkRNG, Threat
from hypergen.analysis import NotApplicable
from hypergen.analysis.curvature import Curvature
from hypergen.analysis.decision_border import Border
from hypergen.analysis.detector import Detector, auroc, evade
from hypergen.runtime.progress import SILENT
from targets.kwta import KWTA
from tests.hypergen.analysis.scene import context, networks, relu_net

SHAPE = 1, 6, 6
DETECTOR = Detector(0.5, directions=3)


@pytest.fixture(scope="module")
def looked_at():
    """Two small ReLU networks on noise, and all that the analysis finds."""
    group = networks(lambda: relu_net(width=16))
    scene = _labelled(group, context(count=24, epsilon=0.3))
    return group, scene, Curvature().run([group], scene, SILENT)


def _labelled(group, scene):
    """The same images, labelled as the first network sees them."""
    images, _ = scene.images()
    labels = group.population[0](images).argmax(1)
    part = replace(scene.dataset.test, labels=labels)
    return replace(scene, dataset=replace(scene.dataset, test=part))


def test_auroc_counts_pairs():
    rng = torch.Generator().manual_seed(0)
    attacked = torch.randint(0, 12, (17,), generator=rng).double() + 2
    clean = torch.randint(0, 12, (23,), generator=rng).double()
    wins = [float(a > c) + 0.5 * float(a == c) for a in attacked for c in clean]
    assert auroc(attacked, clean) == pytest.approx(sum(wins) / len(wins))
    assert auroc(clean + 100, clean) == 1 and auroc(clean - 100, clean) == 0


def test_the_slope_of_the_score_is_its_gradient():
    """Against autograd through the differences of F, with the normal held fast."""
    population = networks(relu_net).population
    double = population.with_tensors(population.theta.double(), {})
    points = torch.rand(2, 4, *SHAPE, dtype=torch.double, generator=torch.Generator())
    seeds = [0, 1]
    scores, slopes = DETECTOR.slopes(double, points, PerNetworkRNG(seeds))
    torch.testing.assert_close(scores, DETECTOR.scores(double, points, PerNetworkRNG(seeds)))
    border, rng = Border.to_runner_up(double, points), PerNetworkRNG(seeds)
    moving = points.clone().requires_grad_()
    total = torch.zeros(())
    for _ in range(DETECTOR.directions):
        move = DETECTOR.step * border.tangent(rng.normal(*points.shape[1:]))
        for end, weight in ((moving + move, 1), (moving - move, 1), (moving, -2)):
            logits = double(end)
            gap = logits.gather(-1, border.other[..., None]) - logits.gather(
                -1, border.own[..., None]
            )
            total = total + weight * (gap[..., 0] / border.steepness).sum()
    (expected,) = torch.autograd.grad(total / DETECTOR.step**2 / DETECTOR.directions, moving)
    torch.testing.assert_close(slopes, expected)


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.2), ("l2", 0.8)])
def test_the_attack_that_knows_stays_in_the_threat_and_lowers_the_score(norm, epsilon):
    population, threat = networks(lambda: relu_net(width=16)).population, Threat(norm, epsilon)
    images = torch.rand(2, 40, *SHAPE, generator=torch.Generator())
    labels = population(images).argmax(-1)
    found = attacks.PGD(threat, steps=5).perturb(population, images, labels, [0, 0])
    fooled = population(found).argmax(-1) != labels
    assert 5 < fooled.sum() < fooled.numel()
    moved = evade(population, DETECTOR, threat, images, labels, found, PerNetworkRNG([1, 1]))
    assert threat.contains(moved, images).all() and moved.min() >= 0 and moved.max() <= 1
    after = population(moved).argmax(-1) != labels
    assert (after | ~fooled).all()  # no example is lost
    judge = replace(DETECTOR, directions=64)
    before, lowered = (judge.scores(population, p, PerNetworkRNG([2, 2])) for p in (found, moved))
    assert lowered[fooled].mean() < before[fooled].mean() - 0.1 * before[fooled].std()


def test_rows_hold_every_figure(looked_at):
    group, _, found = looked_at
    assert not found.skipped
    assert [row["network"] for row in found.rows] == [0, 1]
    first = found.rows[0]
    for name in Curvature.figures:
        value = first[name]
        assert value is None or -1e6 < value < 1e6
        assert value is None or not name.startswith("auroc") or 0 <= value <= 1
    assert first["examples_deepfool"] > 0 and first["examples_adaptive"] == first["examples_attack"]
    assert first["clean"] is not None and first["auroc_deepfool"] is not None
    assert first["step"] > 0 and len(first["principal"]) == 2
    json.dumps(found.rows, allow_nan=False)


def test_a_packed_network_is_looked_at_as_alone(looked_at):
    group, scene, found = looked_at
    second = replace(group, population=group.population[1:])
    (alone,) = Curvature().rows(second, scene, SILENT)
    packed = {name: value for name, value in found.rows[1].items() if name in alone}
    assert alone == packed


def test_a_linear_network_is_flat_and_gives_nothing_away():
    group = networks(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), 1)
    scene = _labelled(group, context(count=24, epsilon=0.3))
    (row,) = Curvature().rows(group, scene, SILENT)
    assert abs(row["clean"]) < 1e-4
    assert all(abs(value) < 1e-3 for each in row["principal"] for value in each)


def test_a_network_of_one_class_has_no_border():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([0.0, 1.0, 0.0]))

        def forward(self, images):
            return self.bias + 0 * images.flatten(1).sum(1, keepdim=True)

    group = networks(Constant, 1)
    (row,) = Curvature().rows(group, context(), SILENT)
    assert all(row[name] is None for name in Curvature.figures)
    found = Curvature().run([group, networks(relu_net, 1, "fbf")], context(), SILENT)
    assert len(found.rows) == 2 and found.figure is not None


def test_jumping_networks_are_left_out():
    def jumping():
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), KWTA(0.5), nn.Linear(8, 3))

    with pytest.raises(NotApplicable, match="k-WTA"):
        Curvature().rows(networks(jumping), context(), SILENT)


def test_the_picture_names_groups_and_attacks(looked_at):
    _, _, found = looked_at
    clean, attacked, principal, detector = found.figure.axes
    assert [text.get_text() for text in clean.get_xticklabels()] == ["sample"]
    assert attacked.get_ylim() == clean.get_ylim()
    assert [text.get_text() for text in detector.get_xticklabels()][1] == "DeepFool"
    assert len(principal.lines[0].get_xdata()) == 6
