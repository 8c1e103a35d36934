import pytest
import torch
from torch import nn

import attacks
from attacks import PGD, Threat
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.selection import (
    attack_schedule,
    halve_by_measures,
    rank,
    sizes,
    successive_halving,
)
from hypergen.measures import (
    Accuracy,
    Batch,
    Measure,
    Stage,
    build_measures,
    judged,
)
from hypergen.storage.weights import load_network
from targets import Population, WeightLayout

THREAT = Threat("linf", 0.03)
IMAGES = 40
CONFIG = TrainConfig.of(measure=("accuracy=0.3", "worst-class=0.7"), objective="value")


@pytest.fixture(scope="module")
def networks(base) -> Population:
    """A trained mlp and copies of it, the later the noisier."""
    module = load_network(base)
    layout = WeightLayout.of(module)
    theta = layout.flatten(dict(module.named_parameters())).detach()
    noise = torch.randn(12, len(theta), generator=torch.Generator().manual_seed(0))
    spread = torch.linspace(0, 0.6, 12)[:, None]
    return Population(module, theta + spread * layout.scales() * noise)


SCHEDULE = [PGD(THREAT, steps=steps) for steps in (1, 3, 6)]
"""Three attacks that take no time."""


def test_the_rank_depends_on_the_preference():
    figures = torch.tensor([[0.9, 0.1], [0.5, 0.6]])
    assert rank(figures, torch.tensor([1.0, 0.0]).expand(2, 2)).tolist() == [0, 1]
    assert rank(figures, torch.tensor([0.0, 1.0]).expand(2, 2)).tolist() == [1, 0]
    assert rank(figures, torch.eye(2)).tolist() == [0, 1]


def test_ever_fewer_networks_meet_ever_stronger_attacks():
    *cheap, last = attack_schedule(THREAT)
    assert all(isinstance(attack, PGD) for attack in cheap) and last == attacks.standard(THREAT)
    assert sizes(1000, 10, 3) == [1000, 141, 20, 10]  # the square root of 50 each time
    assert sizes(15, 10, 3) == [15, 15, 15, 10]
    for count, keep in ((1, 1), (3, 3), (50, 1), (7, 2)):
        steps = sizes(count, keep, 3)
        assert count == steps[0] and steps == sorted(steps, reverse=True) and steps[-1] == keep


def figures(networks: Population, dataset: Dataset) -> torch.Tensor:
    """Accuracy on all validation images and PGD on the first, network by network, [P,2]."""
    images, labels = dataset.val.first(len(dataset.val))
    rows = []
    for index in range(len(networks)):
        alone: nn.Module = networks[index]
        accuracy = (alone(images).argmax(-1) == labels).double().mean()
        model = networks[index : index + 1]
        left = PGD(THREAT, steps=6)(model, images[None, :IMAGES], labels[:IMAGES], [5])
        rows.append(torch.stack([accuracy, left.robust_accuracy[0]]))
    return torch.stack(rows)


def test_where_all_reach_the_end_the_end_decides(networks, digits):
    order = torch.arange(12).flip(0)  # the worst first
    betas = torch.linspace(0, 1, 12)
    weights = torch.stack([1 - betas, betas], -1)
    found = successive_halving(networks, order, weights, digits.val, SCHEDULE, 6, IMAGES, seed=5)
    table = figures(networks, digits)
    scores = (1 - betas) * table[:, 0] + betas * table[:, 1]
    assert scores[found].tolist() == sorted(scores.tolist(), reverse=True)[:6]
    assert scores[found[0]] > scores.median()


class Noted(PGD):
    """PGD that notes the weights of the networks it meets, and on how many images."""

    met: dict[int, list[tuple[torch.Tensor, int]]] = {}
    """By the number of its steps."""

    def __call__(self, model, images, labels, seeds):
        self.met.setdefault(self.steps, []).append((model.theta, images.shape[1]))
        return super().__call__(model, images, labels, seeds)


def test_each_round_sees_the_best_of_the_one_before(networks, digits):
    schedule = [Noted(THREAT, steps=attack.steps) for attack in SCHEDULE]
    order, weights = torch.arange(12), torch.full((12, 2), 0.5)
    (found,) = successive_halving(networks, order, weights, digits.val, schedule, 1, IMAGES)
    assert {count for met in Noted.met.values() for _, count in met} == {IMAGES}
    seen = [torch.cat([theta for theta, _ in Noted.met[attack.steps]]) for attack in schedule]
    assert [len(theta) for theta in seen] == sizes(12, 1, 3)[:-1]
    assert {*map(tuple, seen[0].tolist())} == {*map(tuple, networks.theta.tolist())}
    for before, after in zip(seen, seen[1:], strict=False):
        assert all((before == row).all(1).any() for row in after)
    assert (seen[-1] == networks.theta[found]).all(1).any()


def worst_class(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Accuracy of the worst class, counted class by class."""
    right = network(images).argmax(-1) == labels
    return min(float(right[labels == each].double().mean()) for each in labels.unique())


def test_where_all_reach_the_end_measures_rank_as_measuring_everything_does(networks, digits):
    measures, keep = build_measures(CONFIG), 6
    weights = torch.tensor([0.3, 0.7]).expand(12, 2)
    order = torch.arange(12).flip(0)  # the worst first
    found = halve_by_measures(networks, order, weights, measures, digits.val, THREAT, keep, 100)
    images, labels = digits.val.first(len(digits.val))
    scores = []
    for network in networks:
        accuracy = float((network(images).argmax(-1) == labels).double().mean())
        worst = worst_class(network, images[:100], labels[:100])
        scores.append(0.3 * accuracy + 0.7 * worst)
    assert [scores[index] for index in found] == pytest.approx(sorted(scores)[::-1][:keep])


def test_measures_of_all_kinds_end_in_the_order_of_judging_every_network(networks, digits):
    names = "accuracy=0.1", "robustness=0.5", "int8:bits=3=0.3", "pruned=0.1"
    measures = build_measures(TrainConfig.of(measure=names, epsilon=THREAT.epsilon))
    weights = torch.rand(12, 4, generator=torch.Generator().manual_seed(0))
    split, order = digits.val, torch.arange(12)
    found = halve_by_measures(networks, order, weights, measures, split, THREAT, 6, 10)
    stage = Stage(lambda threat: attack_schedule(threat)[1], 0)
    table = judged(measures, networks, *split.first(10), stage)
    whole = judged(measures[:1], networks, *split.first(len(split)), stage)
    scores = (weights * torch.cat([whole, table[:, 1:]], 1)).sum(1)
    assert scores[found].tolist() == sorted(scores.tolist(), reverse=True)[:6]


class Known(Measure):
    """The figure of each network is known; notes what was measured, on how many images."""

    name = "known"

    def __init__(self, figures: dict[float, float], strict: bool = False):
        self.figures, self.is_strict = figures, strict
        self.met: list[tuple[int, int, bool]] = []

    def strict(self) -> Measure:
        other = Known(self.figures, strict=True)
        other.met = self.met
        return other

    def __call__(self, population: Population, batch: Batch) -> torch.Tensor:
        self.met.append((len(population), len(batch.images), self.is_strict))
        return torch.tensor([self.figures[float(theta[0])] for theta in population.theta])


@pytest.mark.parametrize("keep", [1, 2])
def test_what_is_best_at_every_length_is_found_with_fewer_measurements(networks, digits, keep):
    """Against the ranking of all; only the last measure with the budget that judges."""
    rng = torch.Generator().manual_seed(keep)
    figures = torch.rand(12, generator=rng)
    known = Known(
        {float(theta[0]): float(f) for theta, f in zip(networks.theta, figures, strict=True)}
    )
    weights = torch.tensor([0.0, 1.0]).expand(12, 2)
    order = torch.randperm(12, generator=rng)
    measures = [Accuracy(), known]
    found = halve_by_measures(networks, order, weights, measures, digits.val, THREAT, keep, 40)
    assert found.tolist() == figures.argsort(descending=True)[:keep].tolist()
    *reached, _ = sizes(12, keep, 3)
    assert known.met == [*zip(reached, (10, 20, 40), (False, False, True), strict=True)]
    work = sum(count * images for count, images, _ in known.met)
    assert work < 12 * 40  # of measuring all on all images
