"""Fooling images: searches against closed forms, their budget, and confidences in 64 bits."""

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from hypergen.analysis import fooling
from hypergen.analysis.fooling import Fooling
from hypergen.analysis.fooling_search import (
    MUTATED,
    STRENGTH,
    UNITS,
    Search,
    ascend,
    evolve,
    mutate,
    pattern_size,
    patterns,
)
from hypergen.runtime.progress import SILENT
from tests.hypergen.analysis.scene import context, networks

SHAPE = (1, 2, 3)
SEARCHES = {
    "direct": partial(evolve, size=6, decode=lambda genes: genes.unflatten(-1, SHAPE)),
    "pattern": partial(evolve, size=pattern_size(SHAPE), decode=partial(patterns, shape=SHAPE)),
    "gradient": ascend,
}


class Logged(Search):
    """Notes the scores of each class, in the order in which its images were looked at."""

    def __init__(self, *args):
        super().__init__(*args)
        self.log = [[] for _ in range(self.classes)]

    def look(self, images, classes):
        assert images.min() >= 0 and images.max() <= 1
        scores = super().look(images, classes)
        for place, label in enumerate(classes.tolist()):
            self.log[label] += scores[0, place].tolist()
        return scores


def linear(scale=1.0, classes=3, size=6):
    """Softmax of a linear function."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(size, classes))
    with torch.no_grad():
        module[1].weight.mul_(scale)
    return module


def searched(method, population, budget, enough=math.inf, classes=2):
    search = Logged(population, SHAPE, classes, budget, enough)
    SEARCHES[method](search, rng=torch.Generator().manual_seed(0))
    return search


def best_vertex(module, label):
    """Where the log-probability of a class is greatest among two."""
    weights = module[1].weight.detach()
    return (weights[label] > weights[1 - label]).float()


def test_gradient_ascent_reaches_the_vertex_of_the_box():
    population = networks(partial(linear, classes=2)).population
    images = searched("gradient", population, 52).images  # 51 steps of 0.02
    for network, found in zip(population, images, strict=True):
        for label in range(2):
            assert torch.equal(found[label].flatten(), best_vertex(network, label))


def test_the_genetic_algorithm_nears_it_too():
    population = networks(partial(linear, 4.0, classes=2), 1).population
    found = searched("direct", population, 600).scores[0]
    for label in range(2):
        image = best_vertex(population[0], label).view(1, *SHAPE)
        with torch.no_grad():
            best = population[0](image).log_softmax(-1)[0, label]
        assert best - 0.05 * abs(best) < found[label] <= best + 1e-6


@pytest.mark.parametrize("method", SEARCHES)
def test_the_best_never_falls_and_the_budget_is_met_exactly(method):
    population = networks(linear, 1).population
    longest = searched(method, population, 64)
    assert [len(log) for log in longest.log] == [64, 64]
    for budget in (1, 7, 10, 33):
        search = searched(method, population, budget)
        assert search.used == budget and search.left == 0
        for log, longer in zip(search.log, longest.log, strict=True):
            assert log == pytest.approx(longer[:budget], abs=1e-6)
        assert search.scores[0].tolist() == [max(log) for log in search.log]
        assert (search.evaluations == budget).all()


@pytest.mark.parametrize("method", SEARCHES)
def test_what_is_found_is_the_first_that_is_enough(method):
    population = networks(partial(linear, 4.0), 1).population
    free = searched(method, population, 90, classes=3)
    enough = sorted(max(log) for log in free.log)[1]  # out of reach for one of three
    search = searched(method, population, 90, enough, classes=3)
    counts = search.evaluations[0].tolist()
    for log, before, count in zip(search.log, free.log, counts, strict=True):
        reached = [score >= enough for score in before]
        assert count == (reached.index(True) + 1 if any(reached) else 90)
        assert log == pytest.approx(before[: len(log)], abs=1e-6)
    with torch.no_grad():
        scores = population(search.images).log_softmax(-1)[0].diagonal()
    torch.testing.assert_close(scores, search.scores[0])
    found = search.evaluations[0] < 90
    assert found.any() and not found.all() and (search.scores[0] >= enough)[found].all()


@pytest.mark.parametrize("method", SEARCHES)
def test_networks_searched_together_and_alone(method):
    group = networks(partial(linear, 4.0), 3)
    together = searched(method, group.population, 60, math.log(0.9), classes=3)
    assert len(together.evaluations.unique()) > 2
    for i in range(3):
        alone = searched(method, group.population[i : i + 1], 60, math.log(0.9), classes=3)
        assert torch.equal(alone.evaluations[0], together.evaluations[i])
        assert torch.equal(alone.images[0], together.images[i])


def test_polynomial_mutation():
    draws = torch.tensor([0.0, 0.5 * MUTATED, MUTATED, 0.9])
    assert mutate(torch.full((4,), 0.3), draws).tolist() == pytest.approx([0, 0.3, 0.3, 0.3])
    chances = (torch.arange(10_000).double() + 0.5) / 10_000
    moved = mutate(torch.full_like(chances, 0.5), MUTATED * chances) - 0.5
    assert float(moved.mean()) == pytest.approx(0, abs=1e-6)
    # A change exceeds t with the chance (1 - t)^(STRENGTH + 1), and 0.5 is the edge.
    expected = (1 - 0.5 ** (STRENGTH + 2)) / (STRENGTH + 2)
    assert float(moved.abs().mean()) == pytest.approx(expected, rel=1e-4)


def test_a_pattern_is_painted_pixel_by_pixel():
    shape, rng = (2, 3, 4), torch.Generator().manual_seed(0)
    genes = torch.rand(5, pattern_size(shape), dtype=torch.float64, generator=rng)
    images = patterns(genes, shape)
    assert images.shape == (5, *shape)
    weights = (8 * genes[3] - 4).tolist()

    def layer(values, count):
        rows = [[weights.pop(0) for _ in values] for _ in range(count)]
        return [sum(a * b for a, b in zip(row, values, strict=True)) for row in rows]

    def applied(sums):
        quarter = UNITS // 4
        functions = [math.sin, lambda s: math.exp(-s * s), lambda s: 1 / (1 + math.exp(-s)), float]
        return [functions[place // quarter](value) for place, value in enumerate(sums)]

    x, y = -1 + 2 * 2 / 3, 0.0  # of row 1 and column 2
    painted = layer(applied(layer(applied(layer([x, y, math.hypot(x, y), 1.0], UNITS)), UNITS)), 2)
    expected = [1 / (1 + math.exp(-value)) for value in painted]
    assert images[3, :, 1, 2].tolist() == pytest.approx(expected)
    assert not weights


def test_confidences_are_those_of_the_network_in_64_bits():
    network, images = linear().double(), torch.rand(3, *SHAPE)
    logits = (images.double().flatten(1) @ network[1].weight.T + network[1].bias).tolist()
    expected = [math.exp(each[i]) / sum(map(math.exp, each)) for i, each in enumerate(logits)]
    assert fooling.confidences(network, images).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def brief(monkeypatch):
    """Searches of 30 images."""
    monkeypatch.setattr(fooling, "BUDGET", 30)


def test_rows_and_picture(brief):
    scene, group = context(SHAPE, classes=6), networks(partial(linear, 12.0, 6), 2)
    found = Fooling().run([group, replace(group, name="fbf")], scene, SILENT)
    assert len(found.rows) == 4 and len(found.figure.axes) == 2 * 3 * 5
    alone = Fooling().rows(replace(group, population=group.population[1:]), scene, SILENT)[0]
    second = found.rows[1]
    assert not [name for name in second if name.endswith("images")]
    assert {name: alone[name] for name in second if name in alone} == {
        name: value for name, value in second.items() if name not in ("group", "network")
    }
    assert {*Fooling.figures} <= {*second}
    shares = [row["gradient_found"] for row in found.rows]
    assert min(shares) < 1 and max(shares) > 0
    for row in found.rows:
        sure, counts = row["gradient_confidences"], row["gradient_evaluations"]
        assert row["gradient_found"] == sum(each >= 0.99 for each in sure) / 5
        assert all(count == 30 for count, each in zip(counts, sure, strict=True) if each < 0.99)
        assert row["gradient"] == sorted(counts)[2]


def test_colour_and_what_holds_in_32_bits_alone(brief, monkeypatch):
    def unsure(network, images):
        assert images.shape == (2, 3, 2, 2) and next(network.parameters()).dtype == torch.float64
        return torch.full((2,), 0.98, dtype=torch.float64)

    monkeypatch.setattr(fooling, "confidences", unsure)
    group = networks(partial(linear, 30.0, 2, 12), 1)
    found = Fooling().run([group], context((3, 2, 2), classes=2), SILENT)
    assert found.rows[0]["gradient"] == 30 and found.rows[0]["gradient_found"] == 0
    assert found.figure is not None
