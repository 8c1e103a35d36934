from itertools import islice

import pytest
import torch
from torch import Tensor

from attacks import AttackError, RayS, Threat
from attacks.rays import _blocks
from tests.attacks.conformance import CLASSES, Loop, problem
from tests.attacks.test_linear import linear


def test_blocks_halve_down_to_single_values_for_ever():
    first = [(0, 6), (0, 3), (3, 6), (0, 2), (2, 4), (4, 6)]
    single = [(i, i + 1) for i in range(6)]
    assert list(islice(_blocks(6), 18)) == first + 2 * single


def test_asks_for_the_class_only():
    model, images, labels = problem(2, 20)
    attack = RayS(Threat("linf", 0.02), queries=120)

    def hard(x: Tensor) -> Tensor:
        # No logits but those of a decision, and nothing to differentiate.
        return torch.nn.functional.one_hot(model(x).argmax(-1), CLASSES).float()

    result = attack(hard, images, labels, [0, 1])
    expected = attack(model, images, labels, [0, 1])
    assert torch.equal(result.images, expected.images)
    assert torch.equal(result.robust_mask, expected.robust_mask)


def test_searches_along_rays_of_signs_from_afar():
    # One image and a boundary just out of reach, so that every query is seen.
    images, labels = torch.full((1, 1, 1, 2, 2), 0.5), torch.zeros(1, 1, dtype=torch.int64)
    weight = torch.tensor([[0.0, 0, 0, 0], [4, -3, 2, -1]])
    model = Loop([linear(weight, torch.tensor([1.2, -1.0]))])  # 1.2 behind: a radius of 0.12
    visited = []

    def recorded(x: Tensor) -> Tensor:
        visited.append(x[0, 0].flatten() - 0.5)
        return model(x)

    result = RayS(Threat("linf", 0.119), queries=150)(recorded, images, labels, [0])
    assert result.robust_mask.all() and torch.equal(result.images, images)
    assert len(visited) == 1 + 150 + 1, "clean, the queries, final check"
    queries = torch.stack(visited[1:-1])
    lengths = queries.abs().amax(1)
    assert torch.allclose(queries.abs(), lengths[:, None].expand_as(queries))
    # From all ones, flipped whole; half of it flipped; the other half: right at the corners.
    signs = queries.sign()[:3].tolist()
    assert signs == [[-1.0] * 4, [-1.0, -1, 1, 1], [1.0, 1, -1, -1]]
    assert torch.equal(lengths[:3], torch.full((3,), 0.5))
    # The nearest corner is found, to a thousandth of epsilon, and queried at epsilon.
    wrong = (queries @ weight[1]) > 1.2
    nearest = queries[wrong][lengths[wrong].argmin()]
    assert torch.equal(nearest.sign(), weight[1].sign())
    assert 0.12 <= lengths[wrong].min() <= 0.12 + 2e-4
    assert ((lengths - 0.119).abs() < 1e-6).any()
    within = RayS(Threat("linf", 0.1202), queries=150)(model, images, labels, [0])
    assert not within.robust_mask.any()


def test_more_queries_never_raise_robust_accuracy():
    model, images, labels = problem(2, 40)
    threat = Threat("linf", 0.02)
    results = [
        RayS(threat, queries)(model, images, labels, [0, 1]).robust_mask for queries in (5, 50, 300)
    ]
    assert (results[1] <= results[0]).all() and (results[2] <= results[1]).all()
    assert results[2].sum() < results[1].sum() < results[0].sum()


def test_linf_only():
    with pytest.raises(AttackError, match="rays knows the norm linf only, got 'l2'"):
        RayS(Threat("l2", 0.5))
