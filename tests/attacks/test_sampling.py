from math import pi

import pytest
import torch
from torch import Tensor

from attacks import AttackError, PerNetworkRNG, SamplingGradient, Threat, sampling
from tests.attacks.conformance import problem


def as_published(model, images: Tensor, labels: Tensor, seed: int, options: dict) -> Tensor:
    """The notebook of Tramer et al. 2020 in one network's terms: the last points, [B,C,H,W]."""
    epsilon, sigma, rate = (options[name] for name in ("epsilon", "sigma", "step_size"))
    rows, rng = torch.arange(len(labels)), PerNetworkRNG([seed])

    def margin(x: Tensor) -> Tensor:
        logits = model(x[None])[0]
        others = logits.clone()
        others[rows, labels] = -torch.inf
        return logits[rows, labels] - others.amax(1)

    deltas = torch.zeros_like(images)
    for steps, samples in options["schedule"]:
        for _ in range(steps):
            points = (images + deltas).clamp(0, 1)
            gradient = torch.zeros_like(images)
            for block in range(0, samples // 2, sampling.BLOCK):
                size = min(sampling.BLOCK, samples // 2 - block)
                for noise in rng.normal(size, *images.shape[1:])[0].to(images.dtype):
                    up, down = margin(points + sigma * noise), margin(points - sigma * noise)
                    gradient += (up - down)[:, None, None, None] * noise
            correct = (margin(points) >= 0)[:, None, None, None]
            moved = (deltas - rate * gradient.sign()).clamp(-epsilon, epsilon)
            deltas = torch.where(correct, moved, deltas)
    return (images + deltas).clamp(0, 1)


def test_is_the_published_attack():
    # In double precision, and so far from 0 and 1 that no sample is clipped.
    model, images, _ = problem(1, 30)
    images = (0.4 + 0.2 * images).double()
    model.nets[0].double()
    labels = model(images).argmax(-1)
    options = {"sigma": 0.04, "step_size": 0.012, "schedule": ((3, 20), (2, 130))}
    attack = SamplingGradient(Threat("linf", 0.04), **options)
    result = attack(model, images, labels, [7])
    expected = as_published(model, images[0], labels[0], 7, {"epsilon": 0.04, **options})
    broken = model(expected[None]).argmax(-1) != labels
    assert 5 < broken.sum() < 25
    assert torch.equal(result.robust_mask, ~broken)
    assert torch.allclose(result.images[broken], expected[broken[0]], rtol=0, atol=1e-7)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_how_much_is_evaluated_at_once_changes_nothing(monkeypatch, norm):
    model, images, labels = problem(2, 12)
    attack = SamplingGradient(
        Threat(norm, {"linf": 0.02, "l2": 0.08, "l1": 0.4}[norm]), schedule=((1, 8), (2, 120))
    )
    results = []
    for limit in (1, 300, 10_000):
        monkeypatch.setattr(sampling, "POINTS", limit)
        evaluated = []

        def recorded(x: Tensor, evaluated: list[int] = evaluated) -> Tensor:
            evaluated.append(x.shape[0] * x.shape[1])
            return model(x)

        results.append(attack(recorded, images, labels, [0, 1]))
        assert max(evaluated) <= max(limit, 2 * labels.numel())
    assert 0 < results[0].robust_mask.sum() < labels.numel()
    for result in results[1:]:
        assert torch.equal(result.images, results[0].images)


def test_samples_are_pairs_of_the_given_size():
    calls = []

    def model(x: Tensor) -> Tensor:
        calls.append(x)
        return torch.tensor([1.0, 0.0]).expand(*x.shape[:2], 2)

    images, labels = torch.full((1, 1, 1, 8, 8), 0.5), torch.zeros(1, 1, dtype=torch.int64)
    for norm, sigma in (("linf", 0.02), ("l2", 0.02 * 8), ("l1", 0.02 * 64 * (2 / pi) ** 0.5)):
        calls.clear()
        attack = SamplingGradient(Threat(norm, 0.1), schedule=((2, 400), (1, 20)), sigma=sigma)
        attack(model, images, labels, [0])
        points = torch.cat(calls, 1)[0]
        # Clean and final check, and for each step its samples and its end.
        assert len(points) == 2 + 2 * 401 + 21
        offsets = (points - images[0])[1:401].unflatten(0, (-1, 2, sampling.BLOCK))
        assert torch.allclose(offsets[:, 0], -offsets[:, 1], atol=1e-6)
        assert offsets.std() == pytest.approx(0.02, rel=0.02)


def test_in_l1_pixels_that_cannot_move_take_no_part():
    """The steepest 80 of 784 pixels are at their end already; the others reach a margin of 8."""
    weights = torch.ones(784)
    weights[:80] = -20
    images = torch.full((1, 1, 1, 28, 28), 0.5)
    images.view(-1)[:80] = 0

    def model(x: Tensor) -> Tensor:
        rise = (x.flatten(2) - images.flatten(2)) @ weights
        return torch.stack([torch.full_like(rise, 8.0), rise], -1)

    attack = SamplingGradient(Threat("l1", 10.0), schedule=((20, 100), (20, 1000)))
    assert not attack(model, images, torch.zeros(1, dtype=torch.long), [0]).robust_mask


@pytest.mark.parametrize("schedule", [(), ((1, 2, 3),), ((1, 3),), ((0, 2),)])
def test_bad_schedules(schedule):
    with pytest.raises(AttackError, match="expected"):
        SamplingGradient(Threat("linf", 0.1), schedule=schedule)


def test_the_published_values_are_the_defaults():
    attack = SamplingGradient(Threat("linf", 0.031))
    described = attack.describe()
    assert described["sigma"] == pytest.approx(8 / 255, rel=0.02)
    assert described["step_size"] == pytest.approx(0.01)
    assert described["schedule"] == ((20, 100), (20, 1000), (60, 20_000))
