"""The one door: whatever takes a model, images, labels and seeds refuses and accepts the same."""

from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from attacks import (
    PGD,
    Attack,
    AttackError,
    LineSearchFGSM,
    MomentumFGSM,
    Noise,
    RandomFGSM,
    SamplingGradient,
    Square,
    Suite,
    Threat,
    UniversalDeepFool,
    UniversalGradient,
)
from tests.attacks.conformance import CLASSES, problem

THREAT = Threat("linf", 0.1)
PGD_MARGIN = PGD(THREAT, steps=2, loss="margin")
DOORS = {
    "call": PGD(THREAT, steps=2),
    "perturb pgd": PGD(THREAT, steps=2).perturb,
    "perturb pgd-margin": PGD_MARGIN.perturb,
    "perturb pgd-targeted": PGD(THREAT, steps=2, loss="targeted").perturb,
    "perturb random-fgsm": RandomFGSM(THREAT).perturb,
    "perturb line search": LineSearchFGSM(THREAT).perturb,
    "perturb mi-fgsm": MomentumFGSM(THREAT, steps=2).perturb,
    "perturb square": Square(THREAT, queries=3).perturb,
    "perturb suite": Suite(PGD_MARGIN, Square(THREAT, queries=3)).perturb,
    "fit deepfool": UniversalDeepFool(THREAT, passes=1).fit,
    "fit gradient": UniversalGradient(THREAT, passes=1).fit,
}
ALL_DOORS = pytest.mark.parametrize("door", DOORS.values(), ids=DOORS)
IMAGES = torch.full((2, 3, 1, 6, 6), 0.5)
LABELS = torch.zeros(2, 3, dtype=torch.int64)
SEEDS = [0, 1]


def result(found) -> Tensor:
    return found if isinstance(found, Tensor) else found.images


@pytest.mark.parametrize(
    ("images", "labels", "seeds", "message"),
    [
        (IMAGES[0], LABELS, SEEDS, r"expected images \[P,B,C,H,W\].*got \[3, 1, 6, 6\]"),
        (IMAGES[:, :0], LABELS[:, :0], SEEDS, "none empty"),
        (IMAGES.long(), LABELS, SEEDS, "expected float32 or float64 images, got torch.int64"),
        (IMAGES.half(), LABELS, SEEDS, "got torch.float16"),
        (IMAGES + 255, LABELS, SEEDS, r"in \[0, 1\], got values from 255.5 to 255.5"),
        (IMAGES - 0.6, LABELS, SEEDS, r"in \[0, 1\], got values from -0.1 to -0.1"),
        (IMAGES + 0.500002, LABELS, SEEDS, r"in \[0, 1\], got values from 1.000002 to 1.000002"),
        (IMAGES + torch.nan, LABELS, SEEDS, r"expected images in \[0, 1\], got values from nan"),
        (IMAGES.to("meta"), LABELS, SEEDS, "expected images as plain numbers, got a meta tensor"),
        (IMAGES.to_sparse(), LABELS, SEEDS, "as plain numbers, got a sparse_coo tensor"),
        (IMAGES, LABELS.to("meta"), SEEDS, "expected labels as plain numbers, got a meta tensor"),
        ("cat.png", LABELS, SEEDS, "expected images as a tensor or an array of numbers, got str"),
        ([[0.5], [0.5, 0.5]], LABELS, SEEDS, "expected images as a tensor .*, got list"),
        (IMAGES, LABELS[:, :2], SEEDS, r"expected labels \[3\] or \[2, 3\], got \[2, 2\]"),
        (IMAGES, LABELS.float(), SEEDS, "expected labels of an integer type, got torch.float32"),
        (IMAGES, LABELS.bool(), SEEDS, "expected labels of an integer type, got torch.bool"),
        (IMAGES, ["cat"] * 3, SEEDS, "expected labels as a tensor .*, got list"),
        (IMAGES, None, SEEDS, "expected labels as a tensor .*, got NoneType"),
        (IMAGES, LABELS - 1, SEEDS, "expected labels of at least 0, got -1"),
        (IMAGES, LABELS + CLASSES, SEEDS, "expected labels below the model's 5 classes, got 5"),
        (IMAGES, LABELS, [0], "expected 2 seeds, one a network, got 1"),
        (IMAGES, LABELS, 0, "expected seeds, one whole number a network, got 0"),
        (IMAGES, LABELS, [0.5, 1], "expected seeds, one whole number a network, got"),
        (IMAGES, LABELS, [0, 2**64], "expected seeds of at most 64 bits"),
    ],
)
@ALL_DOORS
def test_bad_input(door, images, labels, seeds, message):
    with pytest.raises(AttackError, match=message):
        door(problem(2, 3)[0], images, labels, seeds)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x.flatten(1), r"expected logits \[2, 3, K\], K >= 2, from the model, got"),
        (lambda x: x.flatten(2)[..., :1], r"got \[2, 3, 1\]"),
        (lambda x: (x.flatten(2), None), "to return logits as one tensor, got tuple"),
        (lambda x: {"logits": x.flatten(2)}, "to return logits as one tensor, got dict"),
        (lambda x: None, "to return logits as one tensor, got NoneType"),
        ("net", "expected a model that is called with images, got 'net'"),
        (None, "expected a model that is called with images, got None"),
        (lambda x: x.flatten(2) / 0, r"NaN or infinite logits \(networks \[0, 1\]\)"),
    ],
)
@ALL_DOORS
def test_bad_model(door, model, message):
    with pytest.raises(AttackError, match=message):
        door(model, IMAGES, LABELS + 35, SEEDS)


@ALL_DOORS
def test_arrays_and_lists_are_taken(door):
    model, images, labels = problem(2, 3)
    expected = result(door(model, images, labels, SEEDS))
    read_only = images.numpy().copy()
    read_only.flags.writeable = False
    ways = zip(
        (read_only, read_only[:, ::-1][:, ::-1], images.clone().requires_grad_()),
        (labels.numpy(), labels.tolist(), labels.to(torch.uint8)),
        (range(2), np.arange(2), torch.arange(2)),
        strict=True,
    )
    for given, truth, seeds in ways:
        assert torch.equal(result(door(model, given, truth, seeds)), expected)


@ALL_DOORS
def test_what_rounding_has_put_outside_is_clipped(door):
    model, images, labels = problem(2, 3)
    rounded = torch.where(images == 1, 1 + 2e-7, torch.where(images == 0, -2e-7, images))
    assert rounded.max() > 1 and rounded.min() < 0
    expected = result(door(model, images, labels, SEEDS))
    assert torch.equal(result(door(model, rounded, labels, SEEDS)), expected)


@ALL_DOORS
def test_a_model_may_work_in_place(door):
    model, images, labels = problem(2, 3)

    def in_place(x: Tensor) -> Tensor:
        return model(x.sub_(0.1).add_(0.1))

    def out_of_place(x: Tensor) -> Tensor:
        return model(x.sub(0.1).add(0.1))

    given = images.clone()
    found, expected = (result(door(m, images, labels, SEEDS)) for m in (in_place, out_of_place))
    assert torch.equal(found, expected) and torch.equal(images, given)


@pytest.mark.parametrize("steps", [1, 3])
def test_labels_are_checked_without_a_forward_pass_of_their_own(steps):
    model, images, labels = problem(1, 3)
    calls = []

    def counted(x: Tensor) -> Tensor:
        calls.append(len(x))
        return model(x)

    PGD(THREAT, steps=steps).perturb(counted, images, labels, [0])
    assert len(calls) == steps


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (PGD(Threat("linf", np.float32(0.5)), np.int64(5), np.float64(0.1)), (5, 0.1)),
        (PGD(Threat("linf", Fraction(1, 2)), np.uint8(5), Fraction(1, 10)), (5, 0.1)),
    ],
)
def test_numbers_of_any_type_become_plain_ones(given, plain):
    attack = PGD(Threat("linf", 0.5), *plain)
    assert given == attack and hash(given) == hash(attack) and given.describe() == attack.describe()
    assert type(given.steps) is int and type(given.step_size) is type(given.threat.epsilon) is float


def test_lists_of_options_become_tuples():
    attack: Attack = SamplingGradient(THREAT, schedule=[[np.int64(2), 20]])
    assert hash(attack) == hash(SamplingGradient(THREAT, schedule=((2, 20),)))
    assert LineSearchFGSM(THREAT, lengths=[1, np.float32(2)]).lengths == (1.0, 2.0)


@pytest.mark.parametrize(
    "attempt",
    [
        partial(PGD, steps=True),
        partial(PGD, restarts=False),
        partial(PGD, step_size=True),
        partial(PGD, step_size="0.1"),
        partial(PGD, steps=5.0),
        partial(Noise, draws=np.bool_(True)),
        partial(Square, p_init=True),
        partial(MomentumFGSM, decay=False),
        partial(LineSearchFGSM, lengths=(True,)),
        partial(SamplingGradient, schedule=((True, 2),)),
        partial(UniversalGradient, batch=True),
    ],
)
def test_truth_values_and_text_are_no_numbers(attempt):
    with pytest.raises(AttackError, match="^expected .*, got (np.)?(True|False|'0.1'|5.0)"):
        attempt(THREAT)
