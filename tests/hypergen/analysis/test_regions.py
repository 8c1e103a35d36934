"""Linear regions: distances to borders against closed forms and search, slices, and rows."""

import json

import pytest
import torch
from torch import nn

from hypergen.analysis import NotApplicable
from hypergen.analysis.cell_borders import nearest_border
from hypergen.analysis.regions import Regions
from hypergen.analysis.slices import Plane, sliced
from hypergen.runtime.progress import SILENT
from targets import Population, build
from targets.breakpoints import follow
from targets.graph import Graph
from targets.linear_pieces import patterns
from targets.piecewise_linear import tensors_of
from tests.hypergen.analysis import scene
from tests.targets.modules import Normed
from tests.targets.test_breakpoints import pooled_residual, seeded, small_lenet


@pytest.fixture(autouse=True)
def _coarse(monkeypatch):
    monkeypatch.setattr("hypergen.analysis.regions.GRID", 6)


def of(module: nn.Module):
    population = Population.of([module])
    return Graph.of(population), tensors_of(population)[0]


class TestBorders:
    def test_of_one_layer_by_hand(self):
        module = seeded(scene.relu_net)[:3].requires_grad_(False)
        image = torch.rand(1, 6, 6, dtype=torch.float64)
        layer = module[1]
        exact = (layer(image.flatten()).abs() / layer.weight.norm(dim=1)).min()
        distance, touching = nearest_border(*of(module), image)
        assert distance == pytest.approx(float(exact)) and touching == 0

    def test_of_pooled_pairs_by_hand(self):
        """Greater of two units each: half-way planes between their weights."""
        linear = nn.Linear(36, 8)
        module = seeded(
            lambda: nn.Sequential(
                nn.Flatten(), linear, nn.Unflatten(1, (1, 8)), nn.MaxPool1d(2), nn.Flatten()
            )
        )
        module.requires_grad_(False)
        image = torch.rand(1, 6, 6, dtype=torch.float64)
        numbers, weight = linear(image.flatten()).view(4, 2), linear.weight.view(4, 2, 36)
        apart = (weight[:, 0] - weight[:, 1]).norm(dim=1)
        exact = ((numbers[:, 0] - numbers[:, 1]).abs() / apart).min()
        assert nearest_border(*of(module), image)[0] == pytest.approx(float(exact))

    @pytest.mark.parametrize("make", [small_lenet, Normed, pooled_residual])
    def test_nothing_bends_nearer(self, make):
        graph, tensors = of(seeded(make))
        rng = torch.Generator().manual_seed(0)
        image = torch.rand(1, 6, 6, dtype=torch.float64, generator=rng)
        distance, touching = nearest_border(graph, tensors, image)
        assert touching == 0
        steps = torch.randn(2000, 1, 6, 6, dtype=torch.float64, generator=rng)
        steps /= steps.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        _, own = patterns(graph, tensors, image[None])
        _, inside = patterns(graph, tensors, image + 0.999 * distance * steps)
        assert (inside == own).all()

    def test_in_two_dimensions_the_search_meets_it(self):
        graph, tensors = of(seeded(lambda: build("mlp", "relu", 3, (1, 1, 2))))
        image = torch.tensor([[[0.3, 0.6]]], dtype=torch.float64)
        distance, _ = nearest_border(graph, tensors, image)
        angles = torch.linspace(0, 2 * torch.pi, 361, dtype=torch.float64)
        steps = torch.stack([angles.cos(), angles.sin()], dim=1).view(-1, 1, 1, 2)
        met = [float(follow(graph, tensors, image, image + step).places[1]) for step in steps]
        assert distance <= min(met) * (1 + 1e-9) and min(met) < 1.001 * distance

    def test_a_blank_image_lies_on_the_borders_of_its_pooling_windows(self):
        module = seeded(lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), nn.Flatten()))
        distance, touching = nearest_border(*of(module), torch.zeros(1, 6, 6, dtype=torch.float64))
        assert touching == 3 * 4 * 3  # channels, windows, places beside the winner
        assert distance == torch.inf

    def test_a_linear_network_has_none(self):
        module = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)))
        image = torch.zeros(1, 6, 6, dtype=torch.float64)
        assert nearest_border(*of(module), image) == (torch.inf, 0)


class TestSlices:
    def test_the_plane_holds_the_three_images(self):
        images = torch.rand(3, 2, 4, 4, dtype=torch.float64)
        plane = Plane.through(images)
        found = plane.origin + torch.einsum("pa,achw->pchw", plane.points, plane.axes)
        torch.testing.assert_close(found, images)
        lengths = plane.axes.flatten(1) @ plane.axes.flatten(1).T
        torch.testing.assert_close(lengths, torch.eye(2).double())
        assert plane.points[0].tolist() == [0, 0] and plane.points[1, 0] > 0
        box = plane.whole()
        assert (box[:, 0] < plane.points.amin(0)).all() and (box[:, 1] > plane.points.amax(0)).all()

    def test_two_units_cut_a_square_into_four(self):
        """Units x - 1/2 and y - 1/2 of the plane through (0,0), (1,0) and (0,1)."""
        linear = nn.Linear(2, 2)
        module = nn.Sequential(nn.Flatten(), linear, nn.ReLU())
        linear.weight.data, linear.bias.data = torch.eye(2), torch.full((2,), -0.5)
        images = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]).view(3, 1, 1, 2)
        plane = Plane.through(images)
        box = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        found = sliced(*of(module), plane, box, 9)
        counts = found.cells.unique(return_counts=True)[1].tolist()
        assert sorted(counts) == [4 * 4, 4 * 5, 4 * 5, 5 * 5]
        corners = {int(found.cells[row, column]) for row in (0, 8) for column in (0, 8)}
        assert len(corners) == 4 == len(found.cells.unique())
        assert found.classes[0, 8] == 0 and found.classes[8, 0] == 1
        # Once in each of the 9 rows a step of 1/9 crosses a border, and once in each column.
        assert float(found.changes.sum()) == pytest.approx(9 * 9 / 2 + 9 * 9 / 2)


def test_rows_of_a_linear_network_by_hand():
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    context = scene.context()
    (row,) = Regions().rows(scene.networks(lambda: module, 1), context, SILENT)
    assert row["regions"] == row["cells"] == 1 and row["bound"] == 0
    assert row["border"] is None and row["touching"] == 0
    images, _ = context.images()
    weight = module[1].weight.detach()
    logits = module(images).detach()
    apart = (weight[:, None] - weight).norm(dim=2)
    exact = []
    for own in logits:
        best = int(own.argmax())
        exact.append(
            min(float((own[best] - own[k]) / apart[best, k]) for k in range(3) if k != best)
        )
    assert row["decision"] == pytest.approx(sum(exact) / len(exact), rel=1e-5)


@pytest.mark.parametrize("make", [scene.relu_net, small_lenet, Normed])
def test_packed_equals_alone(make):
    group, context = scene.networks(make, 2), scene.context()
    rows = Regions().rows(group, context, SILENT)
    json.dumps(rows)
    for number, row in enumerate(rows):
        alone = scene.Group("sample", group.population[number : number + 1])
        (own,) = Regions().rows(alone, context, SILENT)
        for name in Regions.figures:
            assert own[name] == pytest.approx(row[name], rel=1e-9), name
        assert 1 <= row["regions"] <= row["cells"] <= 10 ** row["bound"]
    found = Regions().run([group], context, SILENT)
    assert found.rows[0]["zoom_count"] >= 1 and found.figure is not None


def test_what_it_says_nothing_of(monkeypatch):
    context, analysis = scene.context(), Regions()
    smooth = scene.networks(lambda: build("mlp", "gelu", 3, (1, 6, 6)))
    with pytest.raises(NotApplicable, match="GELU in layer layers.1 is smooth"):
        analysis.rows(smooth, context, SILENT)
    broken = scene.networks(lambda: build("mlp", "kwta-0.2", 3, (1, 6, 6)))
    with pytest.raises(NotApplicable, match="not continuous"):
        analysis.rows(broken, context, SILENT)
    relu = scene.networks(scene.relu_net)
    with pytest.raises(NotApplicable, match="3 images"):
        analysis.rows(relu, scene.context(count=2), SILENT)
    monkeypatch.setattr("hypergen.analysis.regions.MAX_UNITS", 15)
    with pytest.raises(NotApplicable, match="up to 15 .* these networks have 16"):
        analysis.rows(relu, context, SILENT)
    with pytest.raises(NotApplicable, match="different classes"):
        analysis.rows(relu, one_class(), SILENT)


def one_class():
    context = scene.context(classes=2)
    context.dataset.test.labels.zero_()
    return context
