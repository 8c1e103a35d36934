"""Every registered target with every activation against every check any target must pass."""

import pytest
import torch

from targets import ACTIVATIONS, TARGETS, TargetError, WeightLayout, build
from tests.targets.conformance import CHECKS

# What a KAF starts at changes its numbers, not what it does: one target is enough.
STARTS = ("kaf-relu", "kaf-elu", "kaf-swish", "kaf-tanh")
PAIRS = [(t, a) for t in TARGETS for a in ACTIVATIONS if t == "mlp" or a not in STARTS]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("target", "activation"), PAIRS)
def test_target(target, activation, check):
    def make(seed):
        torch.manual_seed(seed)
        return build(target, activation)

    with torch.random.fork_rng():
        check(make)


@pytest.mark.parametrize(
    ("target", "weights"),
    [("small-lenet5", 20_522), ("lenet5", 61_706), ("fbf-cnn", 166_406), ("mlp", 25_450)],
)
def test_weight_count(target, weights):
    assert WeightLayout.of(build(target)).size == weights


@pytest.mark.parametrize("target", TARGETS)
def test_other_images_and_classes(target):
    module = build(target, num_classes=3, input_shape=(3, 32, 32))
    assert module(torch.rand(2, 3, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "smal-lenet5"}, "unknown target 'smal-lenet5'; did you mean 'small-lenet5'?"),
        ({"name": "qqq"}, "unknown target 'qqq'; known: small-lenet5, lenet5, "),
        ({"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'?"),
        ({"activation": "qqq"}, "unknown activation 'qqq'; known: relu, leaky_relu, "),
        ({"activation": "kwta"}, "activation 'kwta': expected kwta-<share>, a share in (0, 1]"),
        ({"num_classes": 1}, "a classifier needs at least 2 classes, got 1"),
        ({"input_shape": (1, 4, 4)}, "small-lenet5 cannot take images of shape (1, 4, 4)"),
        ({"input_shape": (28, 28)}, "expected an input shape (C, H, W), got (28, 28)"),
        ({"input_shape": (0, 28, 28)}, "expected an input shape (C, H, W), got (0, 28, 28)"),
    ],
    ids=str,
)
def test_bad_input(options, message):
    with pytest.raises(TargetError) as error:
        build(**{"name": "small-lenet5", **options})
    assert message in str(error.value) and "\n" not in str(error.value)
