"""Divides images into training, validation and test parts, the same ones each time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hypergen.data.dataset import Dataset, DatasetInfo, Split
from hypergen.data.memory import is_large, room
from hypergen.errors import InputError

PARTS = ("train", "val", "test")
TEST_SHARE, VAL_SHARE = 0.2, 0.1
CHUNK_BYTES = 2**26
"""About how much is read at once."""
MIN_IMAGES = 20


@dataclass(frozen=True)
class Source:
    """Images that are read when they are wanted.

    labels: int64 [N].
    read: gives the images of some rows, uint8 or float32 [n,C,H,W].
    rows_at_once: how many rows `read` is asked for at most.
    """

    labels: np.ndarray
    read: Callable[[np.ndarray], Tensor]
    rows_at_once: int


def permutation(count: int) -> np.ndarray:
    """The numbers below `count` in an order that is always the same."""
    # numpy promises never to change what this old generator gives for a seed; torch does not.
    return np.random.RandomState(0).permutation(count)


def build(info: DatasetInfo, dtype: torch.dtype, sources: Mapping[str, Source]) -> Dataset:
    """A data set of what the sources hold, in an order that mixes the classes.

    sources: train alone, or with test, or with val and test. Without test, every fifth image of
        each class becomes one; without val, every tenth of the training images, but at least one
        of each class that has two.
    dtype: of the images, uint8 or float32.

    Raises:
        InputError: too few images, or labels beyond the classes of `info`.
    """
    total = sum(len(source.labels) for source in sources.values())
    if total < MIN_IMAGES:
        raise InputError(f"{info.name}: {total} images, expected at least {MIN_IMAGES}")
    divided = _divided(sources)
    for part, (_, rows) in divided.items():
        if not len(rows):
            raise InputError(
                f"{info.name}: no image is left for {part}, for its classes have too few each"
            )
    bytes_each = int(np.prod(info.input_shape)) * dtype.itemsize
    mapped = is_large(total * bytes_each)
    splits = {
        part: _filled(source, rows, info.input_shape, dtype, mapped)
        for part, (source, rows) in divided.items()
    }
    return Dataset(info, **splits)


def _divided(sources: Mapping[str, Source]) -> dict[str, tuple[Source, np.ndarray]]:
    """Which rows of which source make up each part, mixed."""
    mixed = {part: permutation(len(source.labels)) for part, source in sources.items()}
    for part, share, left in (("test", TEST_SHARE, 2), ("val", VAL_SHARE, 1)):
        if part not in sources:
            training = mixed["train"]
            held_out = _held_out(sources["train"].labels[training], share, left)
            mixed[part], mixed["train"] = training[held_out], training[~held_out]
    return {part: (sources.get(part, sources["train"]), mixed[part]) for part in PARTS}


def _held_out(labels: np.ndarray, share: float, left: int) -> np.ndarray:
    """Which images to take away, bool [N]: the first of each class.

    Of each class that has more than `left` images it is the share of it, but at least one image.
    Where two are to be left and there are two, every other such class gives one.
    """
    held_out = np.zeros(len(labels), bool)
    order = labels.argsort(kind="stable")
    _, starts, counts = np.unique(labels[order], return_index=True, return_counts=True)
    pairs = 0
    for start, count in zip(starts, counts, strict=True):
        taken = max(1, round(share * count)) if count > left else 0
        if count == left == 2:
            taken, pairs = 1 - pairs % 2, pairs + 1
        held_out[order[start : start + taken]] = True
    return held_out


def _filled(
    source: Source, rows: np.ndarray, shape: tuple[int, ...], dtype: torch.dtype, mapped: bool
) -> Split:
    images = torch.from_numpy(room((len(rows), *shape), np.dtype(str(dtype)[6:]), mapped))
    for start in range(0, len(rows), source.rows_at_once):
        chunk = slice(start, start + source.rows_at_once)
        images[chunk] = source.read(rows[chunk])
    return Split(images, torch.from_numpy(source.labels[rows]))
