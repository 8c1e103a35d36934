"""Writes small files for the tests of data sets."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hypergen.data import Dataset, Split

PARTS = ("train", "val", "test")


def idx(values: np.ndarray) -> bytes:
    """The bytes of an IDX file (the format of MNIST) of uint8 values."""
    head = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    return head + values.astype(np.uint8).tobytes()


def write_mnist(folder: Path, images: bytes, labels: bytes, name: str = "MNIST") -> None:
    """Writes the same images and labels as both parts of a set in MNIST's format."""
    raw = folder / name / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)


def write_folder(
    folder: Path, counts: dict[str, int], size: int = 8, channels: int = 3, seed: int = 0
) -> Tensor:
    """Writes random pictures as PNGs, one folder a class; gives all, class by class, [N,C,H,W]."""
    rng = np.random.default_rng(seed)
    shape = (sum(counts.values()), size, size, channels)[: 4 if channels > 1 else 3]
    pixels = rng.integers(0, 256, shape, dtype=np.uint8)
    each = iter(pixels)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(next(each)).save(folder / name / f"{number:04}.png")
    values = torch.from_numpy(pixels)
    return values[:, None] if channels == 1 else values.permute(0, 3, 1, 2)


def splits(dataset: Dataset) -> dict[str, Split]:
    """Name -> split."""
    return {part: getattr(dataset, part) for part in PARTS}


def content(*parts: Split) -> list[tuple[int, bytes]]:
    """Label and pixels of each image, sorted: equal for equal images in another order."""
    return sorted(
        (int(label), image.numpy().tobytes())
        for split in parts
        for image, label in zip(split.images, split.labels, strict=True)
    )
