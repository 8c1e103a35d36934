"""Borders and their curvature, against closed forms: spheres, planes and quadratic forms."""

import pytest
import torch
from torch import nn

from attacks import PerNetworkRNG
from hypergen.analysis.decision_border import Border, nearest
from tests.hypergen.analysis import scene

SHAPE = 1, 2, 5
SIZE = 10
STEP = 0.3
RADIUS = 0.4


class Quadratic(nn.Module):
    """Logits 0 and (x - c)^T A (x - c) / 2 + b (x - c) - d of images x, c in the middle."""

    def __init__(self, matrix, slope, offset: float):
        super().__init__()
        self.matrix, self.slope = nn.Parameter(matrix), nn.Parameter(slope)
        self.register_buffer("offset", torch.tensor(offset, dtype=torch.double))

    def forward(self, images):
        x = images.flatten(1) - 0.5
        value = ((x @ self.matrix) * x).sum(-1) / 2 + x @ self.slope - self.offset
        return torch.stack([torch.zeros_like(value), value], -1)


def quadratic(matrix, slope=None, offset: float = 0.0):
    """One such network, P = 1, in 64-bit numbers."""
    slope = torch.zeros(SIZE, dtype=torch.double) if slope is None else slope
    return scene.Population.of([Quadratic(matrix, slope, offset).eval()])


def ball(radius: float = RADIUS):
    """Class 0 is a ball around the middle of [0, 1]."""
    return quadratic(2 * torch.eye(SIZE, dtype=torch.double), offset=radius**2)


def drawn(count: int, seed: int = 0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(1, count, *SHAPE, generator=rng, dtype=torch.double)


def rng():
    return PerNetworkRNG([0])


def test_the_border_of_a_ball():
    """From inside and from outside: the way there, the distance, and curvatures of 1 / r."""
    directions = nn.functional.normalize(drawn(6).flatten(2), dim=-1).view(1, 6, *SHAPE)
    lengths = torch.tensor([0.25, 0.3, 0.35, 0.45, 0.45, 0.45], dtype=torch.double)
    images = 0.5 + lengths[:, None, None, None] * directions
    border, distance, beyond = nearest(ball(), images)
    torch.testing.assert_close(border.points, 0.5 + RADIUS * directions, atol=1e-6, rtol=0)
    torch.testing.assert_close(distance[0], (lengths - RADIUS).abs(), atol=1e-6, rtol=0)
    assert border.own.tolist() == [[0, 0, 0, 1, 1, 1]]
    assert (border.own + border.other == 1).all()
    assert (ball()(beyond).argmax(-1) == border.other).all()
    sign = torch.tensor([1, 1, 1, -1, -1, -1], dtype=torch.double)
    expected = (sign / RADIUS)[None]
    mean = border.mean_curvature(STEP, 3, rng())
    torch.testing.assert_close(mean, expected, atol=1e-6, rtol=0)
    for index in (0, 5):
        found = border.at(index).greatest(STEP, 4, rng())
        torch.testing.assert_close(found, expected[0, index].expand(4), atol=1e-6, rtol=0)


def test_principal_curvatures_are_those_of_the_dense_matrix():
    """P H P / |grad F| with numpy's eigenvalues, and its trace over all tangent directions."""
    matrix = drawn(SIZE, 1).view(SIZE, SIZE)
    matrix, slope = matrix + matrix.T, drawn(1, 2).flatten()
    model, point = quadratic(matrix, slope), 0.5 + 0.1 * drawn(1, 3)
    one, zero = torch.ones(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long)
    border = Border.between(model, point, zero, one)
    gradient = matrix @ (point.flatten() - 0.5) + slope
    torch.testing.assert_close(border.gradient.flatten(), gradient)
    normal = gradient / gradient.norm()
    projection = torch.eye(SIZE, dtype=torch.double) - torch.outer(normal, normal)
    dense = projection @ matrix @ projection / gradient.norm()
    values = torch.linalg.eigvalsh(dense)
    greatest = values[values.abs().argsort(descending=True)[:4]].sort().values
    torch.testing.assert_close(border.greatest(STEP, 4, rng()), greatest, atol=1e-4, rtol=1e-3)
    basis = torch.linalg.svd(normal[None]).Vh[1:].view(SIZE - 1, 1, 1, *SHAPE)
    along = torch.stack([border.curvature(each, STEP) for each in basis])
    torch.testing.assert_close(along.mean(), dense.trace() / (SIZE - 1))
    # Random directions: within 5 standard errors, and nearer than the spread of the curvatures.
    many = torch.stack([border.curvature(drawn(1, seed), STEP) for seed in range(400)])
    assert abs(many.mean() - along.mean()) < 5 * many.std() / 20


def test_seen_from_the_other_side_the_sign_turns():
    model, point = ball(), 0.5 + 0.1 * drawn(3)
    one, zero = torch.ones(1, 3, dtype=torch.long), torch.zeros(1, 3, dtype=torch.long)
    forth = Border.between(model, point, zero, one)
    back = Border.between(model, point, one, zero)
    directions = drawn(3, 1)
    torch.testing.assert_close(forth.curvature(directions, STEP), -back.curvature(directions, STEP))


def test_a_linear_network_has_no_curvature():
    group = scene.networks(lambda: nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 3)).double())
    images = torch.rand(2, 4, *SHAPE, dtype=torch.double, generator=torch.Generator())
    border, distance, beyond = nearest(group.population, images)
    both = PerNetworkRNG([0, 0])
    assert border.mean_curvature(STEP, 3, both).abs().max() < 1e-10
    # And the distance is that of the nearest plane, where [0, 1] leaves room to go there.
    for network in range(2):
        logits = group.population[network](images[network])
        weight = group.population[network][1].weight
        own = logits.argmax(-1)
        gaps = logits.gather(1, own[:, None]) - logits
        away = gaps / (weight[own][:, None] - weight[None]).norm(dim=-1).clamp_min(1e-30)
        nearest_plane = away.scatter(1, own[:, None], torch.inf).amin(1)
        free = ((beyond > 0) & (beyond < 1)).flatten(2).all(-1)[network]
        assert (distance[network] > nearest_plane - 1e-9).all()
        torch.testing.assert_close(distance[network][free], nearest_plane[free], atol=1e-6, rtol=0)
        assert free.any()
    alone = Border.to_runner_up(group.population[:1], images[:1])
    assert alone.at(0).greatest(STEP, 3, rng()).tolist() == [0, 0, 0]


def test_no_border_where_the_network_sees_one_class_only():
    model = quadratic(torch.zeros(SIZE, SIZE, dtype=torch.double), offset=1.0)
    border, distance, _ = nearest(model, 0.5 + 0.1 * drawn(2))
    assert distance.isinf().all()
    assert border.mean_curvature(STEP, 2, rng()).tolist() == [[0, 0]]  # flat: no NaN


@pytest.mark.parametrize("network", [0, 1])
def test_a_packed_network_is_looked_at_as_alone(network):
    group = scene.networks(lambda: scene.relu_net(SHAPE).double())
    images = torch.rand(2, 3, *SHAPE, dtype=torch.double, generator=torch.Generator())
    border, distance, _ = nearest(group.population, images)
    alone, own_distance, _ = nearest(group.population[network : network + 1], images[[network]])
    torch.testing.assert_close(distance[[network]], own_distance)
    packed = border.mean_curvature(STEP, 2, PerNetworkRNG([0, 0]))[[network]]
    torch.testing.assert_close(packed, alone.mean_curvature(STEP, 2, rng()))
