"""Activations: layers are found however they are spelled, figures are those of closed forms."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hypergen.analysis import NotApplicable
from hypergen.analysis.activation_layers import find_activations
from hypergen.analysis.activations import Activations, activation_layers, compared
from hypergen.runtime.progress import SILENT
from targets import Population, build, outside_dictionary
from targets.graph import Graph
from tests.hypergen.analysis.scene import context, networks, relu_net
from tests.targets.modules import Calls


class Snake(nn.Module):
    """x + sin(x)^2, an activation of a user's own."""

    def forward(self, values):
        return values + values.sin().square()


class Scaled(nn.Module):
    """2 x, which is no activation."""

    def forward(self, values):
        return 2 * values


def found_in(module, images):
    module.eval().requires_grad_(False)
    return find_activations(Graph(module), module, images.clone().requires_grad_())


@pytest.mark.parametrize("activation", ["relu", "prelu", "swish", "softplus", "kwta-0.2", "kaf"])
def test_layers_and_their_values_are_those_that_hooks_see(activation):
    torch.manual_seed(0)
    module = build("small-lenet5", activation, 3, (1, 16, 16))
    images, seen = torch.rand(4, 1, 16, 16), {}
    layers = {name: module.get_submodule(name) for name in ("features.2", "features.5")}
    layers["classifier.2"] = module.classifier[2]
    found = found_in(module, images)
    for name, layer in layers.items():
        layer.register_forward_hook(
            lambda _, args, out, name=name: seen.update({name: (*args, out)})
        )
    module(images)
    assert [*found] == [*layers]
    for name, (given, answered) in seen.items():
        assert torch.equal(found[name].inputs, given) and torch.equal(found[name].outputs, answered)


def test_functions_modules_used_twice_and_modules_of_a_users_own():
    def forward(self, images):
        values = self.scaled(self.act(self.first(images.flatten(1))))
        values = torch.relu_(self.act(values) + 1).tanh() + F.silu(values)
        return self.last(self.snake(values).clone())

    parts = {"first": nn.Linear(4, 5), "act": nn.ELU(), "snake": Snake(), "scaled": Scaled()}
    module = Calls(forward, **parts, last=nn.Linear(5, 2))
    found = found_in(module, torch.rand(3, 1, 2, 2))
    assert [*found] == ["act", "elu_1", "relu_", "tanh", "silu", "snake"]
    snake = found["snake"]
    torch.testing.assert_close(snake.outputs, snake.inputs + snake.inputs.sin() ** 2)
    slope = 1 + (2 * snake.inputs).sin()
    assert torch.equal(snake.saturated(), slope.abs() < 0.01)


def test_a_layer_with_weights_and_a_function_inside():
    class Dense(nn.Linear):
        def forward(self, values):
            return super().forward(values).relu()

    module = nn.Sequential(nn.Flatten(), Dense(4, 4), nn.Linear(4, 2))
    (found,) = found_in(module, torch.rand(3, 1, 2, 2)).values()
    assert (found.outputs == found.inputs.relu()).all() and (found.inputs < 0).any()


def test_dead_units_and_those_that_are_off():
    """Of four neurons one is off for all images, one on, and the others split the images."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.tensor([[1.0], [1.0], [1.0], [-1.0]]))
        module[1].bias.copy_(torch.tensor([-2.0, 1.0, -0.25, 0.75]))
    images = torch.tensor([0.0, 0.5, 1.0, 0.6]).view(4, 1, 1, 1)
    ((layer,),) = (
        each.values() for each in activation_layers(Population.of([module]), images, images[None])
    )
    assert layer["dead"] == 0.25 and layer["saturated"] == (1 + 1) / 16 and layer["moved"] == 0
    assert layer["zeros"] == 6 / 16


def test_a_dead_filter_is_a_unit():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    with torch.no_grad():
        module[0].bias[1] = -100.0
        module[0].bias[0] = 100.0
    images = torch.rand(5, 1, 6, 6)
    images[:, :, :3, :3] = 0.5  # alike in all images, as a blank border is
    (layers,) = activation_layers(Population.of([module]), images, images[None])
    assert layers["1"]["dead"] == pytest.approx(1 / 3)
    with torch.no_grad():
        off = (module[:2](images)[:, 2] == 0).double().mean()
    assert layers["1"]["saturated"] == pytest.approx(float(off) / 3)


def test_losers_and_inputs_outside_a_dictionary_are_saturated():
    torch.manual_seed(0)
    images = torch.rand(20, 1, 4, 4)

    def layer(activation, scale):
        module = build("mlp", activation, 3, (1, 4, 4)).eval()
        with torch.no_grad():
            module.layers[0].weight.mul_(scale)
        (layers,) = activation_layers(Population.of([module]), images, images[None])
        return module, layers["layers.1"]

    _, losers = layer("kwta-0.2", 1)
    assert losers["dead"] + losers["saturated"] == pytest.approx(26 / 32)  # 6 of 32 stay
    module, outside = layer("kaf", 8)
    assert outside["dead"] == 0
    assert outside["saturated"] == pytest.approx(outside_dictionary(module, images)["layers.1"])
    assert 0.05 < outside["saturated"] < 0.95


def test_a_histogram_is_of_shares():
    clean = torch.arange(1000.0).view(10, 100)
    found = compared(clean, 2 * clean)
    assert found["moved"] == pytest.approx(1)
    assert sum(found["clean"]) == pytest.approx(1, abs=0.01)
    assert sum(found["attacked"]) == pytest.approx(1, abs=0.01)
    assert found["range"][0] == 1 and found["zeros"] == 0.001
    alike = compared(torch.zeros(2, 4), torch.zeros(2, 4))
    assert alike["range"] == [-0.5, 0.5] and sum(alike["clean"]) == 1 and alike["moved"] == 0


def test_packed_equals_alone_and_the_picture_has_a_panel_for_each_layer():
    scene = context()
    sample = networks(relu_net)
    single = networks(lambda: relu_net(width=5), 1, "fbf")
    found = Activations().run([sample, single], scene, SILENT)
    assert found.skipped == {} and len(found.rows) == 3
    alone = Activations().rows(networks(relu_net, 1), scene, SILENT)[0]
    assert {"group": "sample", "network": 0, **alone} == found.rows[0]
    layers = found.rows[1]["layers"]
    assert found.rows[1]["moved"] == pytest.approx(
        (layers["2"]["moved"] + layers["4"]["moved"]) / 2
    )
    assert len(found.figure.axes) == 4


def test_what_it_says_nothing_of():
    affine = networks(lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 3)), 1)
    with pytest.raises(NotApplicable, match="no activation layers"):
        Activations().rows(affine, context(), SILENT)
    with pytest.raises(NotApplicable, match="two images"):
        Activations().rows(networks(relu_net), context(count=1), SILENT)
    by_numbers = Calls(
        lambda self, x: self.head(x.flatten(1)) * (1 if x.sum() > 0 else 2), head=nn.Linear(36, 3)
    )
    skipped = Activations().run([networks(lambda: by_numbers, 1, "odd")], context(), SILENT).skipped
    assert "cannot follow" in skipped["odd"]
