"""Opens exported files, and compares what they compute with the networks that they were made of."""

import io
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from hypergen.errors import RunError

TOLERANCE = 1e-4
"""How far a file's logits may be from PyTorch's, as a share of the image's largest logit."""
SAME_CLASS = 0.95
"""The least share of images that must keep their class."""
BATCH_SIZES = (1, 3, 60)
"""Of the random images that files are checked on."""
ROUNDING = 1e-6
"""Relative size of the noise that tells how far rounding alone may move a network's logits: about
ten times what float32 rounds by."""
NOISY_COPIES = 32
"""Of an image, when that is measured."""

Network = Callable[[Tensor], Tensor]
"""Images [B,C,H,W] -> logits [B,K]."""


def random_images(input_shape: tuple[int, int, int]) -> list[Tensor]:
    """Batches of several sizes, each [B,C,H,W] in [0,1]: the same whenever they are asked for."""
    rng = _rng()
    return [torch.rand(size, *input_shape, generator=rng, device="cpu") for size in BATCH_SIZES]


def opened(file: Path, format: str, path: Path) -> Network | None:
    """Returns what `file`, which is to become `path`, computes; None for want of onnxruntime.

    Raises:
        RunError: a file that cannot be opened.
    """
    if format == "onnx" and find_spec("onnxruntime") is None:
        return None
    try:
        return (_open_onnx if format == "onnx" else _open_pt2)(file.read_bytes())
    except Exception as error:
        raise RunError(f"{path} was not written: it would not open: {first_line(error)}") from error


def _open_pt2(content: bytes) -> Network:
    return torch.export.load(io.BytesIO(content)).module()


def _open_onnx(content: bytes) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what is an error is raised too
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def require_same(
    exported: Network, network: Network, batches: Sequence[Tensor], path: Path
) -> None:
    """Requires that a file, `exported`, computes on `batches` of images what `network` does.

    Raises:
        RunError: the file cannot be run, its logits are too far from those of the network, or too
            many images have another class.
    """
    try:
        found = torch.cat([exported(images) for images in batches])
    except Exception as error:
        raise RunError(f"{path} was not written: it would not run: {first_line(error)}") from error
    images, expected = torch.cat(list(batches)), torch.cat([network(images) for images in batches])
    if found.shape != expected.shape:
        raise RunError(
            f"{path} was not written: its logits would have the shape {list(found.shape)}, "
            f"PyTorch's have {list(expected.shape)}"
        )
    differences = _differences(found, expected)
    far = ~(differences <= TOLERANCE)  # so written, NaN is far
    if far.any():
        allowed = 10 * _moved_by_rounding(network, images[far], expected[far])
        far[far.clone()] = ~(differences[far] <= allowed)
    if far.any() or same_class(found, expected) < SAME_CLASS:
        raise RunError(
            f"{path} was not written: its logits would differ from PyTorch's by up to "
            f"{differences.max():.1g} of the largest logit (allowed: {TOLERANCE:g})"
        )


def same_class(found: Tensor, expected: Tensor) -> float:
    """The share of images to which logits [B,K] give the same class."""
    return float((found.argmax(1) == expected.argmax(1)).double().mean())


def first_line(error: Exception) -> str:
    """What an error of another package says, cut to one line."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _moved_by_rounding(network: Network, images: Tensor, logits: Tensor) -> Tensor:
    """How far noise as small as rounding moves the logits [B,K] of each image: [B]."""
    rng, moved = _rng(), torch.zeros(len(images))
    for _ in range(NOISY_COPIES):
        noise = torch.randn(images.shape, generator=rng, device="cpu")
        moved = moved.maximum(_differences(network(images * (1 + ROUNDING * noise)), logits))
    return moved


def _differences(found: Tensor, expected: Tensor) -> Tensor:
    """The largest difference of each image, as a share of its largest expected logit: [B]."""
    return (found - expected).abs().amax(1) / expected.abs().amax(1).clamp(min=1e-30)


def _rng() -> torch.Generator:
    return torch.Generator("cpu").manual_seed(0)
