"""Architecture identity: what changes it, and what does not."""

import copy
import functools

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from targets import ACTIVATIONS, TARGETS, Population, TargetError, architecture, build


class Powered(nn.Module):
    """Its printed form is the same whatever its options are."""

    def __init__(self, **options):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.__dict__.update(options)

    def forward(self, images):
        return self.layer(images.flatten(1)) ** self.power


class Other(Powered):
    pass


def double(x):
    return 2 * x


def to_the(power):
    return lambda x: x**power


class Settings:
    def __init__(self, depth):
        self.depth = depth


PLAIN = [
    {"power": 2},
    {"power": 3},
    {"power": 2.0},
    {"power": True},
    {"power": None},
    {"power": "2"},
    {"exponent": 2},
    {"power": [2]},
    {"power": (2,)},
    {"power": {"p": 2}},
    {"power": {"p": 3}},
    {"power": {2}},
    {"power": [1, [2, {"p": (3, 4)}]]},
    {"power": [1, [2, {"p": (3, 5)}]]},
    {"power": double},
    {"power": F.relu},
    {"power": torch.relu},
    {"power": lambda x: x},
    {"power": lambda x: x * 2},
    {"power": lambda x: x * 3},
    {"power": to_the(2)},
    {"power": to_the(3)},
    {"power": functools.partial(F.leaky_relu, negative_slope=0.1)},
    {"power": functools.partial(F.leaky_relu, negative_slope=0.2)},
    {"power": nn.ReLU},
    {"power": torch.float32},
    {"power": torch.float64},
    {"power": torch.tensor(2.0)},
    {"power": torch.tensor(3.0)},
    {"power": torch.tensor([2.0])},
    {"power": torch.tensor(2.0, dtype=torch.bfloat16)},
    {"power": numpy.array(2.0)},
    {"power": numpy.float32(2)},
    {"power": Settings(2)},
    {"power": Settings(3)},
    {"power": [Settings(2)]},
]


def test_every_plain_attribute_counts():
    digests = [architecture(Powered(**options)) for options in PLAIN]
    assert len(set(digests)) == len(PLAIN)
    assert digests == [architecture(copy.deepcopy(Powered(**options))) for options in PLAIN]


def changed(change):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 8))
    module.add_module("last", nn.Linear(8, 8))
    module.register_buffer("fixed", torch.zeros(3), persistent=False)
    change(module)
    return architecture(module)


def test_names_classes_tensors_and_hooks_count():
    def tie(module):
        module.last.weight = module[3].weight

    changes = [
        lambda module: None,
        tie,
        lambda module: module.append(nn.Identity()),
        lambda module: module.add_module("later", nn.Identity()),
        lambda module: module.register_module("2", nn.Identity()),
        lambda module: module.register_buffer("fixed", torch.zeros(4), persistent=False),
        lambda module: module.register_buffer("other", torch.zeros(3), persistent=False),
        lambda module: module.register_parameter("other", nn.Parameter(torch.zeros(3))),
        lambda module: module[1].register_forward_hook(lambda module, args, output: 2 * output),
        lambda module: module[1].register_forward_pre_hook(lambda module, args: args),
        lambda module: setattr(module[1], "eps", 1e-4),
        lambda module: setattr(module[0], "padding_mode", "circular"),
        lambda module: setattr(module[3], "bias", None),
    ]
    digests = [changed(change) for change in changes]
    assert len(set(digests)) == len(changes)
    assert architecture(Powered(power=2)) != architecture(Other(power=2))


def test_weights_modes_and_devices_do_not_count():
    module = build("light-cnn", input_shape=(1, 8, 8))
    digest = architecture(module)
    module(torch.rand(2, 1, 8, 8))  # moves statistics
    assert architecture(module.eval()) == digest
    assert architecture(build("light-cnn", input_shape=(1, 8, 8)).to("meta")) == digest
    assert Population.of([module]).recalibrate(torch.rand(4, 1, 8, 8)).architecture == digest


def test_what_refers_to_the_module_itself_does_not_count_as_its_weights():
    def make():
        module = Powered(power=2)
        module.everything = [module, module.layer.weight]
        module.layer.register_forward_hook(module._no_change)
        return module

    Powered._no_change = lambda self, module, args, output: None
    assert architecture(make()) == architecture(make())


def test_what_a_hook_collects_does_not_count():
    module, seen = Powered(power=2), []
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    digest = architecture(module)
    module(torch.rand(2, 4))
    assert len(seen) == 1 and architecture(module) == digest


def test_modules_that_are_not_registered_count_with_their_weights():
    """A population takes them from its first network: others must not be of its architecture."""
    one, same, other = (Powered(power=2, hidden=[nn.Linear(2, 2)]) for _ in range(3))
    same.hidden[0].load_state_dict(one.hidden[0].state_dict())
    assert architecture(one) == architecture(same) != architecture(other)


def test_populations_are_of_one_architecture():
    one, other = Powered(power=2), Powered(power=3)
    assert repr(one) == repr(other)
    with pytest.raises(TargetError, match="one architecture"):
        Population.of([one, other])
    assert Population.of([one]).architecture == architecture(one) != architecture(other)


def test_shipped_targets_are_told_apart():
    with torch.device("meta"):
        small = [name for name in TARGETS if name not in ("wide-mlp", "alexnet")]
        modules = [build(name, input_shape=(1, 64, 64)) for name in small]
    modules += [build("mlp", name, input_shape=(1, 3, 3)) for name in ACTIVATIONS]
    # What a KAF starts as is in its weights alone.
    starts = sum(name.startswith("kaf-") for name in ACTIVATIONS) - len(("free", "authors"))
    assert len({architecture(module) for module in modules}) == len(modules) - starts


def test_the_same_in_another_process(elsewhere):
    code = "import targets; print(targets.architecture(targets.build('small-lenet5', 'kaf')))"
    assert elsewhere(code).strip() == architecture(build("small-lenet5", "kaf"))
