"""The affine pieces of networks, against autograd; and networks that have none."""

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from targets import Population, TargetError, build
from targets.graph import Graph
from targets.linear_pieces import frozen, patterns
from targets.piecewise_linear import tensors_of
from tests.targets.modules import Calls, Normed
from tests.targets.test_breakpoints import MODULES, seeded


def of(module: nn.Module):
    population = Population.of([module])
    return Graph.of(population), tensors_of(population)[0]


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize("name", MODULES)
def test_it_is_its_jacobian_times_the_image_and_a_shift(name, dtype, tolerance):
    module = seeded(MODULES[name]).to(dtype)
    images = torch.rand(4, 1, 6, 6, generator=torch.Generator().manual_seed(0)).to(dtype)
    others = torch.stack([torch.zeros_like(images), images, 3 * images.flip(0)])
    logits, (shift, same, other) = frozen(*of(module), images, others)
    slopes = torch.stack([jacobian(module, x[None])[0, :, 0] for x in images])
    expected = module(images).detach()

    def linear(points):
        return (slopes * points[:, None]).flatten(2).sum(2).detach()

    bound = tolerance * expected.abs().max()
    for found in (logits, same, linear(images) + shift):
        torch.testing.assert_close(found, expected, rtol=0, atol=bound)
    torch.testing.assert_close(other, linear(others[2]) + shift, rtol=0, atol=10 * bound)


def test_patterns_by_hand():
    """Image (a, b): ReLU of a - b and b - a, then the greater of the two."""

    def forward(self, x):
        return F.max_pool1d(self.head(x.flatten(1)).relu()[:, None], 2)[:, 0]

    module = Calls(forward, head=nn.Linear(2, 2, bias=False))
    module.head.weight.data = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    images = torch.tensor([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]]).view(3, 1, 1, 2)
    logits, pattern = patterns(*of(module), images)
    assert logits.tolist() == [[2.0], [2.0], [0.0]]
    assert pattern.tolist() == [[1, 0, 0], [0, 1, 1], [0, 0, 0]]


class Unknown(nn.Module):
    def forward(self, values):
        return values if values.sum() > 0 else -values


@pytest.mark.parametrize(
    "module, problem",
    [
        (
            nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.SiLU(), nn.Linear(4, 3)),
            "SiLU in layer 2 is smooth",
        ),
        (build("mlp", "kwta-0.2", 3, (1, 6, 6)), "KWTA in layer layers.1 is piecewise linear but"),
        (build("mlp", "kaf-elu", 3, (1, 6, 6)), "KAF in layer layers.1 is smooth"),
        (nn.Sequential(nn.Flatten(), Unknown(), nn.Linear(36, 3)), "Unknown in layer 1 is not kn"),
        (Calls(lambda self, x: (x * x).flatten(1), nn.Linear(1, 1)), "mul is not known"),
        (Calls(lambda self, x: x.flatten(1).mean(0), nn.Linear(1, 1)), "mean is not known"),
        (Calls(lambda self, x: x, nn.Linear(1, 1)), "one tensor of logits"),
    ],
)
def test_what_is_not_piecewise_linear_is_named(module, problem):
    with pytest.raises(TargetError, match=problem):
        patterns(*of(module.eval()), torch.rand(2, 1, 6, 6))


def test_batch_norm_by_the_batch_is_refused():
    population = Population.of([Normed()]).normalized_by_batch()
    with pytest.raises(TargetError, match="BatchNorm2d in layer norm is not known"):
        patterns(Graph.of(population), tensors_of(population)[0], torch.rand(2, 1, 6, 6))
