import pytest
import torch
from torch import nn

import attacks
from attacks import PGD, Threat
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.selection import (
    attack_schedule,
    best_measured,
    rank,
    sizes,
    successive_halving,
)
from hypergen.measures import Stage, build_measures
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
        accuracy = (alone(images).argmax(-1) == labels).float().mean()
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


def test_the_best_by_measures_of_any_kind(networks, digits):
    images, labels = digits.val.first(100)
    measures, keep = build_measures(CONFIG), 3
    weights = torch.tensor([0.3, 0.7]).expand(12, 2)
    stage = Stage(lambda threat: PGD(threat, steps=1), seed=0)
    found = best_measured(networks, weights, measures, images, labels, stage, keep)
    scores = []
    for network in networks:
        logits = network(images)
        classes = logits.argmax(-1)
        sizes = labels.bincount(minlength=10)
        rights = labels[classes == labels].bincount(minlength=10)
        worst = (rights[sizes > 0] / sizes[sizes > 0]).min()
        scores.append(float(0.3 * (classes == labels).float().mean() + 0.7 * worst))
    assert [scores[index] for index in found] == pytest.approx(sorted(scores)[::-1][:keep])
