"""f(x) = W_x x + b_x, gradient images, and the product of layers as matrices."""

import json
from functools import reduce

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from hypergen.analysis import NotApplicable
from hypergen.analysis.layer_matrices import layer_matrices
from hypergen.analysis.linearisation import Linearisation
from hypergen.errors import InputError
from hypergen.runtime.progress import SILENT
from targets import Population, build
from targets.graph import Graph
from targets.piecewise_linear import tensors_of
from tests.hypergen.analysis import scene
from tests.targets.modules import Normed
from tests.targets.test_breakpoints import pools_of_all_kinds, seeded, small_lenet


def conv_net() -> nn.Module:
    layers = [nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.LeakyReLU(0.1)]
    layers += [nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(27, 3)]
    return nn.Sequential(*layers)


def matrices(module: nn.Module, image: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    population = Population.of([module])
    return layer_matrices(Graph.of(population), tensors_of(population)[0], image)


class TestMatrices:
    @pytest.mark.parametrize("make", [conv_net, small_lenet, pools_of_all_kinds])
    def test_their_product_is_the_jacobian(self, make):
        module, image = seeded(make), torch.rand(1, 6, 6, dtype=torch.float64)
        product = reduce(torch.matmul, [own for _, own in reversed(matrices(module, image))])
        expected = jacobian(module, image[None])[0, :, 0].flatten(1)
        torch.testing.assert_close(product, expected, rtol=0, atol=1e-12)

    def test_each_is_what_its_layer_does(self):
        module, image = seeded(conv_net), torch.rand(1, 6, 6, dtype=torch.float64)
        names, found = zip(*matrices(module, image), strict=True)
        assert [name.partition(" ")[0] for name in names] == [
            "Conv2d",
            "BatchNorm2d",
            "LeakyReLU",
            "MaxPool2d",
            "Linear",
        ]
        conv, norm, relu, pool, linear = found
        other = torch.rand(1, 1, 6, 6, dtype=torch.float64)
        expected = (module[0](other) - module[0](0 * other)).flatten()
        torch.testing.assert_close(conv @ other.flatten(), expected)
        assert torch.equal(relu, torch.diag(relu.diag())) and {0.1, 1.0} == {*relu.diag().tolist()}
        assert torch.equal(norm, torch.diag(norm.diag()))
        assert ((pool == 0) | (pool == 1)).all() and (pool.sum(1) == 1).all()
        assert torch.equal(linear, module[6].weight)

    def test_branches_and_large_layers_are_refused(self, monkeypatch):
        image = torch.rand(1, 6, 6, dtype=torch.float64)
        with pytest.raises(InputError, match="no chain: add joins branches"):
            matrices(seeded(Normed), image)
        monkeypatch.setattr("hypergen.analysis.layer_matrices.MAX_NUMBERS", 100)
        with pytest.raises(InputError, match="Conv2d in layer 0 is too large"):
            matrices(seeded(conv_net), image)


@pytest.mark.parametrize("make", [scene.relu_net, conv_net, Normed])
def test_it_holds_exactly_for_every_network(make):
    group, context = scene.networks(make, 2), scene.context()
    rows = Linearisation().rows(group, context, SILENT)
    assert all(row["error"] < 1e-12 for row in rows)
    chain = rows[0]["product_error"]
    assert chain is None if make is Normed else chain < 1e-12
    assert all(0 <= row["bias_share"] <= 1 and -1 <= row["alignment"] <= 1 for row in rows)
    json.dumps(rows)


def test_the_figures_of_a_linear_network_by_hand():
    module = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
    context = scene.context()
    images, labels = context.images()
    (row,) = Linearisation().rows(scene.networks(lambda: module, 1), context, SILENT)
    weight, bias = module[1].weight.detach(), module[1].bias.detach()
    assert row["alignment"] == pytest.approx(1)
    assert row["gradient_norm"] == pytest.approx(float(weight[labels].norm(dim=1).mean()))
    linear = (images.flatten(1) * weight[labels]).sum(1).abs()
    share = bias[labels].abs() / (bias[labels].abs() + linear)
    assert row["bias_share"] == pytest.approx(float(share.mean()), rel=1e-5)
    assert row["classes"] == [0, 1, 2]
    picture = torch.tensor(row["gradients"])
    torch.testing.assert_close(picture, weight.view(3, 6, 6), rtol=6e-3, atol=0)


def test_packed_equals_alone():
    group, context = scene.networks(scene.relu_net, 3), scene.context()
    rows = Linearisation().rows(group, context, SILENT)
    for number, row in enumerate(rows):
        alone = scene.Group("sample", group.population[number : number + 1])
        (own,) = Linearisation().rows(alone, context, SILENT)
        for name in ("gradient_norm", "bias_share", "alignment"):
            assert own[name] == pytest.approx(row[name], rel=1e-12)


def test_smooth_networks_are_left_out_and_others_drawn():
    groups = [
        scene.networks(lambda: build("mlp", "swish", 3, (1, 6, 6)), name="sample"),
        scene.networks(scene.relu_net, name="fbf"),
    ]
    found = Linearisation().run(groups, scene.context(), SILENT)
    assert found.skipped == {
        "sample": "SiLU in layer layers.1 is smooth, so the network has no linear pieces"
    }
    assert {row["group"] for row in found.rows} == {"fbf"}
    assert len(found.figure.axes) == 3
    with pytest.raises(NotApplicable):
        Linearisation().rows(groups[0], scene.context(), SILENT)


def test_colour_images_of_one_class_each():
    context = scene.context((3, 4, 4), classes=2, count=2)
    group = scene.networks(lambda: scene.relu_net((3, 4, 4), 2), 1)
    found = Linearisation().run([group], context, SILENT)
    assert found.rows[0]["alignment"] is None
    assert torch.tensor(found.rows[0]["gradients"]).shape == (2, 4, 4)
