"""Every registered target against the checks any target must pass.

Small ones against every check, two of them with every activation, as are the main points of one
with batch norm. The others share their code or are large: they meet the main points with PReLU,
which has a weight for each channel, so that a wrong number of channels would not go unnoticed.
All the other pairs, and whether AlexNet with its 57 million weights learns and is attacked, take
five minutes of one core: `pytest -m slow`; test_imagenet.py compares AlexNet with torchvision's.
"""

import contextlib
import functools

import pytest
import torch

from targets import ACTIVATIONS, TARGETS, TargetError, WeightLayout, build, imagenet
from targets.fast_cpu import FastCPU
from tests.targets.conformance import CHECKS, every_weight_learns, takes_an_fbf_step, works

SMALL = ["small-lenet5", "lenet5", "fbf-cnn", "mlp"]
MIDDLING = ["vgg", "light-cnn", "resnet20"]
OTHERS = [name for name in TARGETS if name not in [*SMALL, *MIDDLING]]
each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)

# What a KAF starts at, and its constants, change its numbers, not what it does: one target will do.
STARTS = ("kaf-relu", "kaf-elu", "kaf-swish", "kaf-tanh", "kaf-identity", "kaf-authors")
WITHOUT_STARTS = [name for name in ACTIVATIONS if name not in STARTS]
FEW = ("prelu", "kaf", "kwta-0.2")  # with a weight a channel, with several, and of a whole image
PAIRS = [(t, a) for t in SMALL for a in (ACTIVATIONS if t == "mlp" else WITHOUT_STARTS)]
SLOW_PAIRS = [(t, a) for t, a in PAIRS if t in ("lenet5", "fbf-cnn") and a not in FEW]


def conforms(target, activation, check, device):
    """Runs the check on the smallest images that the target takes."""
    side = 16 if "lenet5" in target else 8

    def make(seed):
        torch.manual_seed(seed)
        return build(target, activation, input_shape=(1, side, side)).to(device)

    with torch.random.fork_rng():
        check(make, (1, side, side), device)


@each_check
@pytest.mark.parametrize(("target", "activation"), [p for p in PAIRS if p not in SLOW_PAIRS])
def test_small_target(target, activation, check, device):
    conforms(target, activation, check, device)


@pytest.mark.slow
@each_check
@pytest.mark.parametrize(("target", "activation"), SLOW_PAIRS)
def test_small_target_with_each_activation(target, activation, check, device):
    conforms(target, activation, check, device)


@each_check
@pytest.mark.parametrize("target", MIDDLING)
def test_middling_target(target, check, device):
    conforms(target, "prelu", check, device)


@pytest.mark.parametrize("activation", WITHOUT_STARTS)
def test_batch_norm_with_each_activation(activation, device):
    conforms("light-cnn", activation, works, device)


@pytest.mark.parametrize("target", ["vgg", "resnet20"])
def test_middling_target_with_a_dictionary(target, device):
    conforms(target, "kaf", works, device)


@pytest.mark.slow
@pytest.mark.parametrize("activation", WITHOUT_STARTS)
@pytest.mark.parametrize("target", ["vgg", "resnet20"])
def test_middling_target_with_each_activation(target, activation, device):
    conforms(target, activation, works, device)


def others(activations):
    return pytest.mark.parametrize(
        ("target", "activation"), [(t, a) for t in OTHERS for a in activations]
    )


def other_conforms(target, activation, device, monkeypatch):
    monkeypatch.setattr(imagenet, "SIDE", 64)  # the smallest that fits; 224 would take minutes
    check = learns_and_is_attacked if target == "alexnet" else works
    # A deep net of KAFs makes of a rounding 10^10 of it: both sides by the same kernels.
    chaotic = target.startswith("resnet56") and activation.startswith("kaf")
    with FastCPU() if chaotic else contextlib.nullcontext():
        conforms(target, activation, check, device)


def learns_and_is_attacked(make, shape, device):
    make = functools.cache(make)  # to draw 57 million weights takes a second
    every_weight_learns(make, shape, device)
    takes_an_fbf_step(make, shape, device)


# Slow, and other norms are made as in the other networks: in resnet56 as in resnet20.
DEEP = ("resnet18", "preactresnet18")
SLOW = [f"{name}-{norm}" for name in (*DEEP, "resnet56") for norm in ("group", "none")]
# Large; test_imagenet.py has the first, mlp is the code of the second, resnet18 is as the third.
SLOW += ["alexnet", "wide-mlp", "preactresnet18"]


@pytest.mark.parametrize(
    ("target", "activation"),
    [
        pytest.param(target, "prelu", marks=[pytest.mark.slow] if target in SLOW else [])
        for target in OTHERS
    ],
)
def test_other_target(target, activation, device, monkeypatch):
    other_conforms(target, activation, device, monkeypatch)


@pytest.mark.slow
@others([activation for activation in ACTIVATIONS if activation != "prelu"])
def test_other_target_with_each_activation(target, activation, device, monkeypatch):
    other_conforms(target, activation, device, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("activation", STARTS)
@pytest.mark.parametrize("target", [t for t in [*SMALL, *MIDDLING] if t != "mlp"])
def test_each_start_of_a_kaf(target, activation, device):
    conforms(target, activation, works, device)


WEIGHTS = {  # for colour images of 32 x 32, the small ones for grey images of 28 x 28
    "small-lenet5": 20_522,
    "lenet5": 61_706,
    "fbf-cnn": 166_406,
    "mlp": 25_450,
    "wide-mlp": 14_706_698,
    "vgg": 551_018,
    "light-cnn": 75_370,
    "resnet20": 269_722,
    "resnet56": 853_018,
    "preactresnet18": 11_172_170,
    "alexnet": 57_044_810,
    "resnet18": 11_181_642,
}


@pytest.mark.parametrize("target", WEIGHTS)
def test_weight_count(target):
    shape = (1, 28, 28) if target in SMALL else (3, 32, 32)
    with torch.device("meta"):  # sizes alone
        assert WeightLayout.of(build(target, input_shape=shape)).size == WEIGHTS[target]


@pytest.mark.parametrize("target", WEIGHTS)
def test_other_images_and_classes(target):
    with torch.device("meta"):
        module = build(target, num_classes=3, input_shape=(3, 32, 32))
        assert module(torch.rand(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "smal-lenet5"}, "unknown target 'smal-lenet5'; known: small-lenet5, lenet5, "),
        ({"activation": "qqq"}, "unknown activation 'qqq'; known: relu, leaky_relu, "),
        ({"activation": "kwta"}, "activation 'kwta': expected kwta-<share>, a share in (0, 1]"),
        ({"activation": "kaf-elu-1"}, "activation 'kaf-elu-1': a dictionary has 2 to 1000 points"),
        ({"activation": "kaf-99999"}, "activation 'kaf-99999': a dictionary has 2 to 1000 points"),
        ({"activation": "elu-20"}, "unknown activation 'elu-20'; known: relu, leaky_relu, "),
        ({"num_classes": 1}, "a classifier needs at least 2 classes, got 1"),
        ({"input_shape": (1, 4, 4)}, "small-lenet5 cannot take images of shape (1, 4, 4)"),
        ({"input_shape": (28, 28)}, "expected an input shape (C, H, W), got (28, 28)"),
        ({"input_shape": 3}, "expected an input shape (C, H, W), got 3"),
        ({"input_shape": "abc"}, "expected an input shape (C, H, W), got 'abc'"),
        ({"input_shape": (1.5, 28, 28)}, "expected an input shape (C, H, W), got (1.5, 28, 28)"),
        ({"num_classes": None}, "a classifier needs at least 2 classes, got None"),
        ({"num_classes": 3.5}, "a classifier needs at least 2 classes, got 3.5"),
        ({"input_shape": (0, 28, 28)}, "expected an input shape (C, H, W), got (0, 28, 28)"),
    ],
    ids=str,
)
def test_bad_input(options, message):
    with pytest.raises(TargetError) as error:
        build(**{"name": "small-lenet5", **options})
    assert message in str(error.value) and "\n" not in str(error.value)
