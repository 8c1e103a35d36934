"""Lipschitz constants: closed forms, dense matrices, and that bounds keep their order."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import targets
from hypergen.analysis import NotApplicable
from hypergen.analysis.jacobian import in_double, jacobians
from hypergen.analysis.lipschitz import Lipschitz
from hypergen.analysis.lipschitz_product import ProductBound
from hypergen.analysis.slopes import SLOPES, greatest_slope, kaf_slope
from hypergen.runtime.progress import SILENT
from targets import TargetError
from targets.graph import Graph
from tests.hypergen.analysis.scene import context, networks, relu_net


def net(*layers):
    """The layers, and two linear ones behind them."""
    end = nn.Flatten(), nn.LazyLinear(12), nn.ReLU(), nn.Linear(12, 3)
    return nn.Sequential(*layers, *end)


def mlp(activation):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 6), activation, nn.Linear(6, 3))


NETS = {
    "pool after relu": lambda: net(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 3, 2)
    ),
    "overlapping pool": lambda: net(
        nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(3, 2), nn.LeakyReLU(0.1)
    ),
    "average": lambda: net(nn.Conv2d(1, 2, 3), nn.ELU(), nn.AvgPool2d(2)),
    "batch norm": lambda: net(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()),
    "tanh": lambda: net(nn.Conv2d(1, 2, 3, stride=2), nn.Tanh()),
    "sigmoid": lambda: mlp(nn.Sigmoid()),
    "softplus": lambda: mlp(nn.Softplus()),
    "residual": lambda: net(nn.Conv2d(1, 2, 3), Residual()),
}


class Residual(nn.Module):
    """x + relu(conv(x)), beside -x."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return torch.cat([x + torch.relu(self.conv(x)), -x], dim=1)


def made(make):
    """As `make` makes it, with the sizes of its lazy layers known, and statistics that count."""
    module = make()
    module(torch.rand(8, 1, 6, 6))
    return module.eval()


def product(module, shape=(1, 6, 6)):
    module = module.double().eval()
    tensors = dict(module.named_parameters()) | dict(module.named_buffers())
    tensors = {name: tensor.detach() for name, tensor in tensors.items()}
    rng = torch.Generator().manual_seed(0)
    return ProductBound(Graph(module), tensors, torch.zeros(1, *shape).double(), rng)


def norm(layer):
    return float(torch.linalg.matrix_norm(layer.weight.detach(), 2))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("make", NETS.values(), ids=NETS)
@pytest.mark.parametrize("epsilon", [0.001, 0.1])
def test_bounds_keep_their_order(make, epsilon):
    group, scene = networks(lambda: made(make), 2), context(epsilon=epsilon, count=4)
    for row in Lipschitz().rows(group, scene, SILENT):
        seen = max(row["jacobian"], row["change"])
        assert row["change"] > 0 and seen <= row["local_bound"] * (1 + 1e-6)
        assert row["local_bound"] <= row["product_bound"]


@pytest.mark.parametrize("name", ["pool after relu", "batch norm", "tanh", "residual"])
def test_a_local_bound_becomes_the_jacobian_as_the_ball_shrinks(name):
    group, scene = networks(lambda: made(NETS[name]), 1), context(epsilon=1e-7, count=6)
    (row,) = Lipschitz().rows(group, scene, SILENT)
    images, _ = scene.images()
    _, derivatives = jacobians(in_double(group.population), images.double()[None])
    largest = float(torch.linalg.matrix_norm(derivatives[0].flatten(2), 2).max())
    assert row["local_bound"] == pytest.approx(largest, rel=1e-3)


@pytest.mark.parametrize("make", [NETS["pool after relu"], NETS["overlapping pool"], relu_net])
def test_no_two_points_of_a_ball_are_further_apart_than_the_local_bound_allows(make):
    group, scene = networks(lambda: made(make), 1), context(epsilon=0.05, count=1)
    (row,) = Lipschitz().rows(group, scene, SILENT)
    image, _ = scene.images()
    around = (image + 0.05 * (2 * torch.rand(4000, *image.shape[1:]) - 1)).clamp(0, 1).double()
    logits, derivatives = jacobians(in_double(group.population), around[None])
    ways = (around[::2] - around[1::2]).flatten(1).norm(dim=1)
    changes = (logits[0, ::2] - logits[0, 1::2]).norm(dim=1)
    assert float((changes / ways).max()) <= row["local_bound"]
    assert torch.linalg.matrix_norm(derivatives[0].flatten(2), 2).max() <= row["local_bound"]


def test_a_linear_network_reaches_its_bounds():
    group = networks(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), 1)
    (row,) = Lipschitz().rows(group, context(), SILENT)
    expected = norm(group.population[0][1])
    for name in ("product_bound", "local_bound", "jacobian"):
        assert row[name] == pytest.approx(expected, rel=1e-6)


def test_the_product_is_that_of_the_layers():
    network = relu_net()
    found = product(network)
    expected = [norm(layer) for layer in network if isinstance(layer, nn.Linear)]
    assert [factor.name for factor in found.factors] == ["1", "3", "5"]
    assert [float(f.constants) for f in found.factors] == pytest.approx(expected, rel=1e-6)
    assert float(found.total) == pytest.approx(math.prod(expected), rel=1e-6)


def test_batch_norm_counts_with_the_layer_before_it():
    conv, norm_layer = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)
    norm_layer.weight.data = torch.tensor([2.0, -3.0, 0.1])
    norm_layer.running_var.data = torch.tensor([4.0, 0.5, 1.0])
    factor = norm_layer.weight / (norm_layer.running_var + norm_layer.eps).sqrt()
    folded = nn.Conv2d(1, 3, 3)
    folded.weight.data = (conv.weight * factor[:, None, None, None]).detach()
    end = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(48, 3))
    found = product(nn.Sequential(conv, norm_layer, end))
    assert [f.name for f in found.factors] == ["0 with 1", "2.2"]
    assert float(found.total) == pytest.approx(
        float(product(nn.Sequential(folded, end)).total), rel=1e-5
    )
    alone = product(nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(36, 3)))
    assert float(alone.factors[0].constants) == pytest.approx(1, rel=1e-4)


def test_branches_add_up_and_parts_count_as_one_vector():
    module = Residual().double()
    inner = float(product(nn.Sequential(module.conv), (2, 6, 6)).total)
    assert float(product(module, (2, 6, 6)).total) == pytest.approx(
        math.hypot(1 + inner, 1), rel=1e-5
    )


@pytest.mark.parametrize(
    "pool, expected",
    [
        (nn.MaxPool2d(2), 1.0),
        (nn.MaxPool2d(3, 2), 2.0),
        (nn.MaxPool2d(3, 1), 3.0),
        (nn.MaxPool2d(2, 2, dilation=2), 2.0),
        (nn.MaxPool2d(3, 2, dilation=3), 2.0),
        (nn.AvgPool2d(2), 0.5),
        (nn.AdaptiveAvgPool2d(1), 1 / 8),
    ],
    ids=str,
)
def test_pooling(pool, expected):
    assert float(product(nn.Sequential(pool, nn.Flatten()), (2, 8, 8)).total) == pytest.approx(
        expected, rel=1e-6
    )


ACTIVATIONS = {
    "celu": nn.CELU(), "hardtanh": nn.Hardtanh(), "logsigmoid": nn.LogSigmoid(),
    "relu6": nn.ReLU6(), "softplus": nn.Softplus(), "softsign": nn.Softsign(), "tanh": nn.Tanh(),
    "sigmoid": nn.Sigmoid(), "hardsigmoid": nn.Hardsigmoid(), "silu": nn.SiLU(),
    "gelu": nn.GELU(approximate="tanh"), "mish": nn.Mish(), "hardswish": nn.Hardswish(),
    "selu": nn.SELU(),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(SLOPES.keys() - {"clamp"}))
def test_the_greatest_slope_is_rounded_up_and_hardly(name):
    grid = torch.linspace(-8, 8, 400_001, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(ACTIVATIONS[name](grid).sum(), grid)
    steepest = float(slopes.abs().max())
    assert steepest <= SLOPES[name] * (1 + 1e-9) and SLOPES[name] < steepest + 1e-3


def test_slopes_of_activations_with_parameters():
    call = SimpleNamespace(name="prelu", args=(None, torch.tensor([0.2, -3.0])), kwargs={})
    assert greatest_slope(call) == 3
    call = SimpleNamespace(name="leaky_relu", args=(None,), kwargs={"negative_slope": 0.1})
    assert greatest_slope(call) == 1
    call = SimpleNamespace(name="elu", args=(None,), kwargs={"alpha": 2.0})
    assert greatest_slope(call) == 2
    assert greatest_slope(SimpleNamespace(name="hardshrink", args=(), kwargs={})) is None


@pytest.mark.parametrize("name", ["kaf", "kaf-relu", "kaf-tanh-30", "kaf-free", "kaf-authors"])
def test_the_slope_of_a_kaf_is_bounded_closely(name):
    layer = targets.make_activation(name, 2).double()
    tensors = dict(layer.named_parameters()) | dict(layer.named_buffers())
    bound = kaf_slope(layer, {key: tensor.detach() for key, tensor in tensors.items()})
    grid = torch.linspace(-8, 8, 100_001, dtype=torch.float64).requires_grad_()
    (slopes,) = torch.autograd.grad(layer(grid[:, None].expand(-1, 2)).sum(), grid)
    channels = [
        torch.autograd.grad(layer(grid[:, None].expand(-1, 2))[:, c].sum(), grid)[0].abs().max()
        for c in range(2)
    ]
    steepest = float(max(channels))
    assert steepest <= bound <= steepest * 1.01 + 1e-3


def test_kaf_and_swish_have_a_product_and_no_local_bound():
    for name in ("kaf-elu", "swish"):
        group = networks(lambda name=name: targets.build("small-lenet5", name, 3, (1, 16, 16)), 1)
        (row,) = Lipschitz().rows(group, context((1, 16, 16), count=2), SILENT)
        assert row["local_bound"] is None
        assert max(row["jacobian"], row["change"]) <= row["product_bound"]


def test_a_network_that_is_not_continuous_is_refused():
    group = networks(lambda: targets.build("small-lenet5", "kwta-0.2", 3, (1, 16, 16)), 1)
    with pytest.raises(NotApplicable, match="jumps"):
        Lipschitz().rows(group, context((1, 16, 16), count=2), SILENT)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Flatten(), nn.Softmax(-1), nn.Linear(36, 3)),
        nn.Sequential(nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 3)),
    ],
)
def test_what_has_no_constant_here_is_named(module):
    with pytest.raises(TargetError, match="cannot bound"):
        product(module)


def test_a_group_is_what_its_networks_are_alone():
    group, scene = networks(lambda: made(NETS["pool after relu"]), 2), context(count=3)
    row = Lipschitz().rows(group, scene, SILENT)[1]
    (alone,) = Lipschitz().rows(replace(group, population=group.population[1:]), scene, SILENT)
    assert alone["layers"] == row["layers"]
    for name in ("norms", "local_bound", "jacobian", "change"):
        assert alone[name] == pytest.approx(row[name], rel=1e-9)


def test_the_certified_radius_holds_against_the_worst_direction():
    """Of a linear classifier of two classes the distance to the border is known."""
    group = networks(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), 1)
    scene = context(classes=2, count=6)
    (row,) = Lipschitz().rows(group, scene, SILENT)
    layer, (images, labels) = group.population[0][1], scene.images()
    with torch.no_grad():
        margins = layer(images.flatten(1)).diff(dim=1)[:, 0] * (2 * labels - 1)
        distances = margins.clamp_min(0) / (layer.weight[1] - layer.weight[0]).norm()
    assert 0 < row["certified_radius"] <= float(distances.mean())


def test_one_picture_of_all_groups():
    analysis, scene = Lipschitz(), context(count=4)
    groups = [networks(relu_net, 2, "sample"), networks(relu_net, 1, "fbf")]
    found = analysis.run(groups, scene, SILENT)
    assert found.figure is not None and len(found.figure.axes) == 2
    assert analysis.figures.keys() <= found.rows[0].keys()
