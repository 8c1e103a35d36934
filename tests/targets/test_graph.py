"""The graph of a target: it computes what the target computes, layer by layer."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from targets import NORMALIZED, TARGETS, Population, TargetError, build, select_output
from targets.graph import Graph
from tests.targets.modules import Calls, Normed

SHAPES = {"alexnet": (3, 64, 64), "resnet18": (3, 32, 32)}
LARGE = {"alexnet", "resnet18", "preactresnet18", "resnet56", "wide-mlp"}
SMALL = [name for name in TARGETS if name.partition("-")[0] not in LARGE and name not in LARGE]


def evaluated(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What the graph makes of the images, by the functions of its nodes."""
    graph = Graph(module)
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    values = graph.evaluate(
        tensors, images, lambda call: call.function(*call.args, **call.kwargs), lambda value: True
    )
    return values[graph.nodes[-1]]


@pytest.mark.parametrize("name", SMALL)
def test_it_computes_what_the_target_computes(name):
    shape = (3, 32, 32) if name in NORMALIZED or "resnet" in name else (1, 28, 28)
    module = build(name, "relu", 10, shape).eval()
    images = torch.rand(3, *shape)
    assert torch.equal(evaluated(module, images), module(images))


@pytest.mark.parametrize("activation", ["leaky_relu", "prelu", "elu", "swish", "tanh", "softplus"])
def test_of_any_activation(activation):
    module, images = build("small-lenet5", activation).eval(), torch.rand(2, 1, 28, 28)
    assert torch.equal(evaluated(module, images), module(images))


def test_batch_norm_by_the_batch_shortcuts_and_buffers():
    population = Population.of([Normed()]).normalized_by_batch()
    images = torch.rand(5, 1, 6, 6)
    torch.testing.assert_close(evaluated(population[0], images), population(images[None])[0])


def test_layers_are_told_by_name():
    graph = Graph(build("small-lenet5", "kwta-0.2").eval())
    places = [graph.place(node) for node in graph.nodes if node.op.startswith("call")]
    assert places[:3] == [
        "Conv2d in layer features.0",
        "MaxPool2d in layer features.1",
        "KWTA in layer features.2",
    ]
    assert places[6] == "flatten" and places[-1] == "Linear in layer classifier.4"


def test_tied_weights_and_what_a_hook_selects():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4, bias=False))
    module[3].weight = module[1].weight
    images = torch.rand(3, 1, 2, 2)
    torch.testing.assert_close(evaluated(module, images), module(images))
    pair = Calls(lambda self, x: {"all": x, "logits": self.head(x.flatten(1))}, head=module[1])
    select_output(pair, "logits")
    torch.testing.assert_close(evaluated(pair, images), module[1](images.flatten(1)))


def test_what_works_in_place_is_computed_out_of_place():
    def forward(self, images):
        values = F.relu(images.flatten(1) - 0.5, inplace=True)
        values += images.flatten(1)
        return values.add_(1).clamp_(max=2) @ torch.ones(4, 2)

    module, images = Calls(forward, nn.Linear(1, 1)), torch.rand(3, 1, 2, 2)
    kept = images.clone()
    assert torch.equal(evaluated(module, images), module(images)) and images.equal(kept)


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: F.relu_(x - 0.5 + x),
        lambda self, x: self.layers[0](x),
    ],
)
def test_nothing_else_is_refused(forward):
    Graph(Calls(forward, nn.ReLU(inplace=True), nn.Linear(1, 1)))


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: F.relu_(y := x - 0.5) + y,
        lambda self, x: ((y := x - 0.5).flatten(1).relu_(), y)[1],
        lambda self, x: [(y := x - 0.5), (z := y.flatten(1)), y.add_(1), z][-1],
    ],
)
def test_what_is_changed_in_place_and_used_again_is_refused(forward):
    with pytest.raises(TargetError, match=r"cannot follow (relu|add), which works in place"):
        Graph(Calls(forward, nn.Linear(1, 1)))


def test_a_course_that_depends_on_the_numbers_is_refused():
    module = Calls(lambda self, x: x if x.mean() > 0 else -x, nn.Linear(1, 1))
    with pytest.raises(TargetError, match="cannot follow Calls: "):
        Graph(module)


def test_it_is_made_once_for_an_architecture():
    first, second = (Population.of([build("mlp")]) for _ in range(2))
    assert Graph.of(first) is Graph.of(second.with_theta(second.theta + 1))
    other = Population.of([Normed()])
    assert Graph.of(other) is not Graph.of(other.normalized_by_batch())
