from pathlib import Path

import pytest
import torch

from hypergen.errors import RunError
from hypergen.storage.export_check import (
    BATCH_SIZES,
    opened,
    random_images,
    require_same,
    same_class,
)

SHAPE = (1, 8, 8)


def steps(images):
    """Jumps between two logits where the first pixel passes 0.5."""
    above = (images[:, 0, 0, 0] > 0.5).float()
    return torch.stack([1 + above, torch.full_like(above, 3.0)], 1)


def shifted_steps(by: float):
    return lambda images: steps(images + by)


def tied() -> list[torch.Tensor]:
    """Random images, one of which stands at the jump."""
    batches = random_images(SHAPE)
    batches[0][0, 0, 0, 0] = 0.5
    return batches


def test_a_jump_that_rounding_alone_can_cause_is_no_difference():
    require_same(shifted_steps(1e-7), steps, tied(), Path("net.pt2"))


@pytest.mark.parametrize(
    "other",
    [
        shifted_steps(0.1),  # as many jump without being near
        lambda images: steps(images) * 1.001,
        lambda images: steps(images) * torch.nan,
        lambda images: steps(images)[:1],
        lambda images: steps(images)[:, :1],
    ],
    ids=["jumps", "scaled", "NaN", "fewer images", "fewer classes"],
)
def test_any_other_difference_is_one(other):
    with pytest.raises(RunError, match="was not written"):
        require_same(other, steps, tied(), Path("net.pt2"))


@pytest.mark.parametrize("format", ["onnx", "pt2"])
def test_a_file_that_does_not_open_is_named(format, tmp_path):
    if format == "onnx":
        pytest.importorskip("onnxruntime")
    (tmp_path / "part").write_bytes(b"no graph")
    with pytest.raises(RunError, match="net was not written: it would not open") as caught:
        opened(tmp_path / "part", format, Path("net"))
    assert "\n" not in str(caught.value)


def test_the_images_are_in_several_batches_and_always_the_same():
    first, second = random_images(SHAPE), random_images(SHAPE)
    assert [len(batch) for batch in first] == list(BATCH_SIZES)
    assert all(a.equal(b) for a, b in zip(first, second, strict=True))


def test_the_share_of_one_class_counts_images():
    found, expected = torch.eye(4)[[0, 1, 2, 3]], torch.eye(4)[[0, 1, 2, 0]]
    assert same_class(found, expected) == 0.75
