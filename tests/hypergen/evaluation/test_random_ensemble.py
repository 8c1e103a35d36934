import pytest
import torch

import attacks
from hypergen.evaluation.random_ensemble import LOSSES, random_ensemble, shares_correct
from hypergen.storage.weights import load_network
from targets import Population


def linear(threshold: float) -> torch.nn.Module:
    """Class 1 where the only pixel is above the threshold."""
    layer = torch.nn.Linear(1, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.0], [1.0]]))
        layer.bias.copy_(torch.tensor([0.0, -threshold]))
    return torch.nn.Sequential(torch.nn.Flatten(), layer)


def test_the_closed_form_of_thresholds():
    """A pixel of 0.5 moved by 0.1 falls below the thresholds between 0.4 and 0.5."""
    population = Population.of(linear(t) for t in (0.1, 0.2, 0.45, 0.48))
    images, labels = torch.full((3, 1, 1, 1), 0.5), torch.ones(3, dtype=torch.int64)
    found = random_ensemble(population, images, labels, attacks.Threat("linf", 0.1), steps=10)
    assert found == 0.5


def test_for_every_image_the_worst_of_all_points_counts(monkeypatch):
    population = Population.of([linear(0.5)])
    images, labels = torch.full((5, 1, 1, 1), 0.55), torch.ones(5, dtype=torch.int64)
    assert len(LOSSES) == 4
    broken = iter(range(4))  # by each loss another image, the last by none

    def attacked_images(networks, images, labels, attack, seed):
        points = images.clone()
        points[next(broken)] = 0.45
        return points[None]

    monkeypatch.setattr("hypergen.evaluation.random_ensemble.attacked_images", attacked_images)
    found = random_ensemble(population, images, labels, attacks.Threat("linf", 0.1))
    assert found == pytest.approx(1 / 5)


def test_one_network_is_no_random_ensemble(base, digits):
    population = Population.of([load_network(base)])
    images, labels = digits.test.first(60)
    threat = attacks.Threat("linf", 0.05)
    found = random_ensemble(population, images, labels, threat, steps=10)
    alone = attacks.PGD(threat, steps=10)(population, images[None], labels, [0])
    assert found <= float(alone.robust_accuracy) + 0.05


def test_no_room_is_expected_accuracy(population, digits):
    images, labels = digits.test.first(60)
    found = random_ensemble(population, images, labels, attacks.Threat("linf", 0.0), steps=3)
    each = [population[i](images).argmax(1) == labels for i in range(len(population))]
    assert found == pytest.approx(float(torch.stack(each).float().mean()))
    assert found == pytest.approx(float(shares_correct(population, images, labels).mean()))
