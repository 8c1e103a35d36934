"""Targets and activations of others, by name."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from targets import (
    ACTIVATIONS,
    TARGETS,
    Target,
    TargetError,
    activation_factory,
    build,
    make_activation,
)


class Linear(nn.Module):
    def __init__(self, num_classes=10, input_shape=(1, 28, 28)):
        super().__init__()
        self.layer = nn.Linear(torch.Size(input_shape).numel(), num_classes)

    def forward(self, images):
        return self.layer(images.flatten(1))


def activated(activation):
    return nn.Sequential(nn.Flatten(), make_activation(activation, 784), nn.Linear(784, 10))


def nothing():
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))


def by_keyword(*, input_shape, activation="tanh", num_classes):
    return nn.Sequential(nn.Flatten(), make_activation(activation, 4), Last(num_classes))


class Last(nn.LazyLinear):
    """Whose size is known when it first sees an image."""


@pytest.fixture
def register(monkeypatch):
    monkeypatch.setattr("targets.registry._CHECKED", set())

    def add(make, output=None):
        monkeypatch.setitem(TARGETS, "my-net", make if output is None else Target(make, output))

    return add


class TestArguments:
    def test_by_name(self, register):
        register(Linear)
        assert build("my-net", num_classes=3, input_shape=(2, 5, 5)).layer.weight.shape == (3, 50)
        register(activated)
        assert isinstance(build("my-net", "tanh")[1], nn.Tanh)
        register(nothing)
        assert len(build("my-net")) == 2
        register(by_keyword)
        net = build("my-net", "elu", 2, (1, 3, 3))
        assert isinstance(net[1], nn.ELU) and net[2].weight.shape == (2, 9)
        assert build("my-net", "elu", 2, (1, 3, 3))[2].weight.shape == (2, 9)

    def test_what_a_partial_fixes_stays(self, register):
        register(partial(activated, activation="tanh"))
        assert isinstance(build("my-net")[1], nn.Tanh)
        with pytest.raises(TargetError, match="my-net takes no activation, got 'elu'"):
            build("my-net", "elu")

    @pytest.mark.parametrize("make", [Linear, nothing])
    def test_an_activation_that_cannot_be_taken(self, make, register):
        register(make)
        with pytest.raises(
            TargetError, match="my-net takes no activation, got 'tanh': leave the activation out"
        ):
            build("my-net", "tanh")

    def test_others_that_it_needs(self, register):
        register(lambda num_classes, width, /: None)
        with pytest.raises(TargetError, match="my-net needs num_classes, width: a target takes"):
            build("my-net")

    @pytest.mark.parametrize("classes", [2, 3, 17])
    @pytest.mark.parametrize("name", ["small-lenet5", "lenet5", "fbf-cnn", "mlp", "resnet20"])
    def test_any_number_of_classes(self, name, classes):
        with torch.device("meta"):
            assert build(name, "elu", classes)(torch.zeros(4, 1, 28, 28)).shape == (4, classes)


class Told(nn.Module):
    """Fails or answers as it is told."""

    def __init__(self, answer):
        super().__init__()
        self.head, self.answer = nn.Linear(784, 10), answer

    def forward(self, images):
        return self.answer(self.head(images.flatten(1)))


def raises(error):
    raise error


class Unset(nn.Module):
    """Forgets to call the constructor of modules."""

    def __init__(self):
        pass


class TestCheck:
    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (lambda logits: (logits, logits), "my-net answers with a tuple, not with logits: "),
            (lambda logits: {"logits": logits}, "my-net answers with a dict, not with logits: "),
            (lambda logits: None, "my-net answers with a NoneType, not with logits: "),
            (lambda logits: logits[:, :7], r"shape \[1, 7\], expected logits \[1, 10\]"),
            (lambda logits: logits[0], r"shape \[10\], expected logits \[1, 10\]"),
            (lambda logits: logits.sum(), r"shape \[\], expected logits \[1, 10\]"),
            (
                lambda logits: raises(KeyError("no such layer\nat all")),
                r"my-net fails on images of shape \(1, 28, 28\): KeyError: 'no such layer",
            ),
            (lambda logits: raises(ValueError()), r"\(1, 28, 28\): ValueError$"),
            (
                lambda logits: logits @ logits,
                r"\(1, 28, 28\): RuntimeError: .*mat1 and mat2",
            ),
        ],
    )
    def test_answers(self, answer, message, register):
        register(lambda: Told(answer))
        for _ in range(2):  # a failure is no check passed
            with pytest.raises(TargetError, match=message) as error:
                build("my-net")
            assert "\n" not in str(error.value)

    def test_output(self, register):
        register(lambda: Told(lambda logits: (None, logits)), output=1)
        assert build("my-net")(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
        register(lambda: Told(lambda logits: {"x": logits}), output="logits")
        with pytest.raises(TargetError, match=r"my-net fails on .*: KeyError: 'logits'"):
            build("my-net")

    def test_constructors(self, register):
        register(lambda: raises(ZeroDivisionError("no width")))
        with pytest.raises(TargetError, match="my-net cannot .*: ZeroDivisionError: no width"):
            build("my-net")
        register(lambda: F.relu)
        with pytest.raises(TargetError, match="my-net makes a function, expected an nn.Module"):
            build("my-net")

    @pytest.mark.parametrize("make", [Unset, lambda: nn.Sequential(nn.Flatten(), Unset())])
    def test_modules_that_were_never_set_up(self, make, register):
        register(make)
        with pytest.raises(TargetError, match=r"my-net: `Unset` must call super\(\).__init__\(\)"):
            build("my-net")

    def test_leaves_everything_as_it_was(self, register):
        class Counting(nn.Module):
            def __init__(self):
                super().__init__()
                self.norm, self.head = nn.BatchNorm2d(1), nn.Linear(784, 10)
                self.register_buffer("calls", torch.zeros(()))
                self.norm.eval()

            def forward(self, images):
                self.calls += 1
                return F.dropout(self.head(self.norm(images).flatten(1)))

        register(Counting)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            module, state = build("my-net"), torch.get_rng_state()
            torch.manual_seed(0)
            Counting()
            assert torch.equal(torch.get_rng_state(), state)
        assert module.calls == 0 and module.norm.num_batches_tracked == 0
        assert module.training and not module.norm.training


class TestActivations:
    @pytest.mark.parametrize(
        ("make", "expected"),
        [
            (nn.CELU, nn.CELU()),
            (nn.ReLU6, nn.ReLU6()),
            (lambda: nn.Hardtanh(0, 1), nn.Hardtanh(0, 1)),
            (nn.PReLU, nn.PReLU(3)),
            (lambda n: nn.PReLU(n, init=0.5), nn.PReLU(3, init=0.5)),
            (partial(nn.PReLU, init=0.5), nn.PReLU(3, init=0.5)),
            (partial(nn.CELU, alpha=2.0), nn.CELU(2.0)),
            (nn.BatchNorm2d, nn.BatchNorm2d(3)),
        ],
    )
    def test_with_and_without_the_number_of_channels(self, make, expected, monkeypatch):
        monkeypatch.setitem(ACTIVATIONS, "mine", make)
        for found in (make_activation("mine", 3), activation_factory("mine")(3)):
            assert repr(found) == repr(expected)
            torch.testing.assert_close(found.state_dict(), expected.state_dict())

    def test_bad_input(self, monkeypatch):
        monkeypatch.setitem(ACTIVATIONS, "mine", lambda: F.relu)
        with pytest.raises(TargetError, match="'mine' makes a function, expected an nn.Module"):
            make_activation("mine", 3)
