"""Breakpoints along segments: none missing, none too many, by evaluating the plain module."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from targets import Population, build
from targets import breakpoints as breakpoints_module
from targets.breakpoints import Line, follow
from targets.graph import Graph
from targets.linear_pieces import patterns
from targets.piecewise_linear import tensors_of
from tests.targets.modules import Calls, Normed


def seeded(make, seed: int = 0) -> nn.Module:
    """A module in 64-bit numbers whose batch norms have statistics of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = make().double().eval()
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                layer.running_mean.normal_(0, 0.3)
                layer.running_var.uniform_(0.5, 2)
    return module


def pooled_residual() -> nn.Module:
    def forward(self, x):
        batch = x.shape[0]
        x = F.max_pool2d(self.norm(self.stem(x)), 3, stride=2, padding=1)
        x = F.relu(x + self.conv(F.leaky_relu(x, 0.2)))
        return self.head(x.view(batch, -1))

    layers = {"stem": nn.Conv2d(1, 3, 3, padding=1), "norm": nn.BatchNorm2d(3)}
    layers |= {"conv": nn.Conv2d(3, 3, 3, padding=1), "head": nn.Linear(27, 3)}
    return Calls(forward, **layers)


def pools_of_all_kinds() -> nn.Module:
    def forward(self, x):
        x = F.max_pool2d(self.conv(x), 2, stride=1, dilation=2, ceil_mode=True).relu()
        x = F.adaptive_max_pool2d(x, (2, 3)).flatten(1)
        x = F.max_pool1d(self.dense(x).unsqueeze(1), kernel_size=3, stride=2).squeeze(1)
        return self.head(x)

    layers = {"conv": nn.Conv2d(1, 2, 2), "dense": nn.Linear(12, 9), "head": nn.Linear(4, 3)}
    return Calls(forward, **layers)


def activations_of_all_kinds() -> nn.Module:
    layers = [nn.Linear(36, 8), nn.Hardtanh(-0.2, 0.3), nn.Linear(8, 8), nn.ReLU6()]
    layers += [nn.Linear(8, 8), nn.PReLU(8), nn.Linear(8, 8), nn.Hardsigmoid(), nn.Linear(8, 8)]
    rest = [nn.LeakyReLU(), nn.Linear(8, 3)]
    module = nn.Sequential(nn.Flatten(), *layers, *rest)
    return Calls(lambda self, x: self.layers[0](x).clamp(max=0.2).abs(), module)


def small_lenet() -> nn.Module:
    layers = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 8)]
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(8, 3))


MODULES = {
    "mlp": lambda: build("mlp", "relu", 3, (1, 6, 6)),
    "relu before pooling": small_lenet,
    "residual, batch norm, PReLU": Normed,
    "residual, overlapping pools": pooled_residual,
    "pools": pools_of_all_kinds,
    "activations": activations_of_all_kinds,
}


def followed(module: nn.Module, start: Tensor, end: Tensor) -> Line:
    population = Population.of([module])
    return follow(Graph.of(population), tensors_of(population)[0], start, end)


def points(start: Tensor, end: Tensor, places: Tensor) -> Tensor:
    return start + places.view(-1, 1, 1, 1) * (end - start)


def compare(module: nn.Module, size: int, scale: float, lines: int, count: int) -> int:
    """Compares bends with those seen on `count` even points, and says on how many lines for sure.

    A bend shows in the second differences of the points on both sides, or of the one it is on; so
    bends at least three steps apart are seen apart, and of others some are seen as one.
    """
    rng, sure = torch.Generator().manual_seed(3), 0
    places = torch.linspace(0, 1, count, dtype=torch.float64)
    for _ in range(lines):
        start, end = scale * torch.rand(2, 1, size, size, generator=rng, dtype=torch.float64)
        with torch.no_grad():
            logits = module(points(start, end, places)).numpy()
        second = np.abs(np.diff(logits, 2, axis=0)).max(1) > 1e-11 * np.abs(logits).max()
        seen = int((np.diff(second.astype(int), prepend=0) == 1).sum())
        bends = followed(module, start, end).bends
        apart = bool((bends.diff() > 3 / count).all())
        assert len(bends) == seen if apart else len(bends) >= seen
        sure += apart
    return sure


@pytest.mark.parametrize("name", MODULES)
def test_between_breakpoints_it_is_affine_and_at_each_the_pattern_changes(name):
    module, rng = seeded(MODULES[name]), torch.Generator().manual_seed(1)
    population = Population.of([module])
    graph, (tensors,) = Graph.of(population), tensors_of(population)
    total = 0
    for _ in range(3):
        start, end = 4 * torch.rand(2, 1, 6, 6, generator=rng, dtype=torch.float64) - 2
        line = follow(graph, tensors, start, end)
        assert line.places[0] == 0 and line.places[-1] == 1 and (line.places.diff() > 0).all()
        tried = torch.rand(500, generator=rng, dtype=torch.float64).sort().values
        exact = module(points(start, end, tried)).detach().numpy()
        for label, own in enumerate(line.logits.T.numpy()):
            found = np.interp(tried.numpy(), line.places.numpy(), own)
            np.testing.assert_allclose(found, exact[:, label], rtol=0, atol=1e-11)
        middles = (line.places[1:] + line.places[:-1]) / 2
        _, pattern = patterns(graph, tensors, points(start, end, middles))
        assert (pattern[1:] != pattern[:-1]).any(1).all()
        assert set(line.bends.tolist()) <= set(line.places[1:-1].tolist())
        assert np.log10(line.cells) <= line.bound
        total += len(line.bends)
    assert total > 10


@pytest.mark.parametrize("name", MODULES)
def test_as_many_as_a_fine_grid_resolves(name):
    assert compare(seeded(MODULES[name], seed=2), 6, 1.0, lines=4, count=10**4) >= 1


@pytest.mark.slow
def test_a_hundred_lines_against_a_million_points():
    module = seeded(lambda: build("mlp", "relu", 3, (1, 2, 2)))
    assert compare(module, 2, 4.0, lines=100, count=10**6) >= 95


def test_what_is_too_large_at_once_is_followed_in_halves(monkeypatch):
    module = seeded(pooled_residual)
    start, end = torch.rand(2, 1, 6, 6, dtype=torch.float64, generator=torch.Generator())
    whole = followed(module, start, end)
    monkeypatch.setattr(breakpoints_module, "MAX_NUMBERS", 14 * 243)
    monkeypatch.setattr(breakpoints_module, "FEW_PLACES", 8)
    halves = followed(module, start, end)
    torch.testing.assert_close(halves.places, whole.places, rtol=0, atol=1e-12)
    torch.testing.assert_close(halves.logits, whole.logits, rtol=0, atol=1e-12)


def test_equal_windows_and_units_that_bend_together_count_once():
    """Eight equal units, in windows of equal numbers: one breakpoint, where the image is 0.25."""
    conv = nn.Conv2d(1, 2, 1).double()
    nn.init.constant_(conv.weight, 1.3)
    nn.init.constant_(conv.bias, -1.3 / 4)
    module = nn.Sequential(conv, nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2).double())
    blank = torch.zeros(1, 4, 4, dtype=torch.float64)
    line = followed(module, blank, blank + 1)
    torch.testing.assert_close(line.places, torch.tensor([0, 0.25, 1], dtype=torch.float64))
    assert line.cells == 2 and len(line.bends) == 1


def test_a_slight_bend_beside_another_is_seen():
    """Knots at 0.5 and 5e-8 further on; the first turns the slope by 3e-5 of what it is."""
    dense, head = nn.Linear(1, 3), nn.Linear(3, 1)
    dense.weight.data = torch.ones(3, 1)
    head.weight.data = torch.tensor([[1000.0, 0.03, 100.0]])
    module = nn.Sequential(nn.Flatten(), dense, nn.ReLU(), head).double()
    dense.bias.data = torch.tensor([0.0, -0.5, -0.5 - 5e-8], dtype=torch.float64)
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    bends = followed(module, zero, zero + 1).bends
    torch.testing.assert_close(
        bends, torch.tensor([0.5, 0.5 + 5e-8], dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_a_window_of_lines_by_hand():
    """max(1 - 3 t, 0, 0.2, 2 t - 1): 0.2 lies above 0, on top from 4/15 to 3/5."""
    weights = torch.tensor([[-3.0], [0.0], [0.0], [2.0]])
    dense = nn.Linear(1, 4)
    dense.weight.data, dense.bias.data = weights, torch.tensor([1.0, 0.0, 0.2, -1.0])
    module = Calls(
        lambda self, x: F.max_pool1d(self.head(x.flatten(1)).unsqueeze(1), 4)[:, 0], head=dense
    )
    zero = torch.zeros(1, 1, 1, dtype=torch.float64)
    line = followed(module.double(), zero, zero + 1)
    torch.testing.assert_close(line.places, torch.tensor([0, 4 / 15, 3 / 5, 1]).double())
    torch.testing.assert_close(line.logits[:, 0], torch.tensor([1, 0.2, 0.2, 1]).double())
    assert line.bound == pytest.approx(np.log10(4))
