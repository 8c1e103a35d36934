"""Makes data sets of a user's own arrays: what is in an npz file, or what a function returns."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hypergen.data.dataset import Dataset, DatasetInfo
from hypergen.data.pixels import adapted
from hypergen.data.splitting import CHUNK_BYTES, PARTS, Source, build
from hypergen.data.wording import one_line
from hypergen.errors import InputError

CHANNELS = (1, 3)
"""Lengths by which the axis of channels is told from the others."""


def from_returned(name: str, made: Any, image_size: int | None, grey: bool) -> Dataset:
    """The data set that a registered function returned.

    made: (images, labels), a tuple of two or three such pairs (train, test or train, val, test),
        each an array or a tensor; or a `Dataset`, whose parts and their order are kept.

    Raises:
        InputError: anything else, and what `from_arrays` refuses.
    """
    if isinstance(made, Dataset):
        return _checked(name, made)
    pairs = made if isinstance(made, tuple | list) else ()
    if len(pairs) == 2 and not any(isinstance(each, tuple) for each in pairs):
        pairs = (made,)
    names = {1: ("train",), 2: ("train", "test"), 3: PARTS}.get(len(pairs))
    whole = all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in pairs)
    if names is None or not whole:
        raise InputError(
            f"{name}: the function returned {type(made).__name__}, expected (images, labels), "
            "((images, labels), (images, labels)) for train and test, or a Dataset"
        )
    parts = {
        part: (_array(name, x), _array(name, y)) for part, (x, y) in zip(names, pairs, strict=True)
    }
    hint = "return a Dataset instead, whose images are channels first"
    return from_arrays(name, parts, hint, image_size, grey)


def from_arrays(
    name: str,
    parts: Mapping[str, tuple[np.ndarray, np.ndarray]],
    layout_hint: str,
    image_size: int | None,
    grey: bool,
    layout: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """A data set of arrays, with the parts that are not given split off, all in a mixed order.

    parts: train, and perhaps test, or val and test, each (images, labels). Images are uint8, or
        floats in [0,1], which are kept as float32; [N,H,W], [N,C,H,W] or [N,H,W,C]. Labels are
        whole numbers [N] or [N,1] from 0 to K-1.
    layout: NCHW or NHWC; by default the axis of 1 or 3 channels tells.
    layout_hint: how a user says which, for the message when it does not.
    class_names: K names; by default the numbers.

    Raises:
        InputError: arrays of another form, a class without a training image, one class alone,
            fewer than 20 images, values outside [0,1].
    """
    images: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray] = {}
    for part, (pixels, numbers) in parts.items():
        where = f"{name}: the {part} part" if len(parts) > 1 else name
        images[part] = _channels_first(where, pixels, layout, layout_hint)
        labels[part] = _labels(where, numbers, len(pixels))
    first = images["train"]
    for part, pixels in images.items():
        if pixels.shape[1:] != first.shape[1:] or pixels.dtype != first.dtype:
            raise InputError(
                f"{name}: images of train are {first.dtype} {list(first.shape[1:])}, of {part} "
                f"{pixels.dtype} {list(pixels.shape[1:])}, expected the same"
            )
    classes = _class_names(name, labels, class_names)
    sources = {part: _source(name, images[part], labels[part], image_size, grey) for part in parts}
    example = sources["train"].read(np.arange(1))
    channels, height, width = example.shape[1:]
    return build(DatasetInfo(name, (channels, height, width), classes), example.dtype, sources)


def _array(name: str, values: Any) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of unequal lengths
        told = f"{name}: images and labels must be arrays or tensors ({one_line(error)})"
        raise InputError(told) from error


def _channels_first(where: str, images: np.ndarray, layout: str | None, hint: str) -> np.ndarray:
    """A view [N,C,H,W] of images of any layout. `InputError`: what cannot be images."""
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"{where}: images must be uint8, or floats in [0,1], got {images.dtype}")
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise InputError(
            f"{where}: images must be [N,H,W], [N,C,H,W] or [N,H,W,C], got {list(images.shape)}"
        )
    if images.ndim == 3:
        return images[:, None]
    if layout is None:
        fits = [images.shape[axis] in CHANNELS for axis in (1, 3)]
        if fits[0] == fits[1] and images.shape[1:] != (1, 1, 1):
            raise InputError(
                f"{where}: the shape {list(images.shape)} does not tell whether channels come "
                f"first or last; {hint}"
            )
        layout = "NCHW" if fits[0] else "NHWC"
    return images if layout == "NCHW" else images.transpose(0, 3, 1, 2)


def _labels(where: str, labels: np.ndarray, count: int) -> np.ndarray:
    """The labels as int64 [N]. `InputError`: what is no whole number from 0 an image."""
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape != (count,):
        several = (
            "; turn one-hot labels into numbers by .argmax(1); images of several classes at once "
            "are not supported"
        )
        raise InputError(
            f"{where}: labels must be one number for each of the {count} images, "
            f"got {list(labels.shape)}{several if labels.ndim == 2 else ''}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise InputError(f"{where}: labels must be whole numbers, got {labels.dtype}")
    if labels.min() < 0:
        raise InputError(f"{where}: labels must be at least 0, got {labels.min()}")
    if labels.max() >= 2**31:
        raise InputError(f"{where}: a label is {labels.max()}; labels must run from 0 to K-1")
    return labels.astype(np.int64)


def _class_names(
    name: str, labels: Mapping[str, np.ndarray], class_names: Sequence[str] | None
) -> tuple[str, ...]:
    """One name a class. `InputError`: labels that are not those of the training part's classes."""
    present = np.unique(labels["train"])
    known = int(present[-1]) + 1 if class_names is None else len(class_names)
    for part, numbers in labels.items():
        if numbers.max() >= known:
            raise InputError(
                f"{name}: a label of {part} is {numbers.max()}, expected 0 to {known - 1}, "
                f"for there are {known} classes"
            )
    if len(present) < known:
        (gaps,) = np.nonzero(present != np.arange(len(present)))
        gap = gaps[0] if len(gaps) else len(present)
        raise InputError(
            f"{name}: no training image has the label {gap}; each of 0 to {known - 1} needs one"
        )
    if known < 2:
        raise InputError(f"{name}: all images are of one class, expected at least 2")
    return tuple(map(str, range(known) if class_names is None else class_names))


def _source(
    name: str, images: np.ndarray, labels: np.ndarray, image_size: int | None, grey: bool
) -> Source:
    floats = images.dtype != np.uint8

    def read(rows: np.ndarray) -> Tensor:
        chosen = images[rows]
        if floats and not ((chosen >= 0) & (chosen <= 1)).all():
            raise InputError(
                f"{name}: float images must be in [0,1], found {chosen.min():g} to "
                f"{chosen.max():g}; divide by their largest value, or store uint8"
            )
        chosen = np.ascontiguousarray(chosen, np.float32 if floats else np.uint8)
        return adapted(torch.from_numpy(chosen), image_size, grey)

    bytes_each = max(images.nbytes // len(images), 4 * images.shape[1] * (image_size or 0) ** 2)
    return Source(labels, read, max(1, CHUNK_BYTES // bytes_each))


def _checked(name: str, dataset: Dataset) -> Dataset:
    """The data set under that name. `InputError`: floats outside [0,1]."""
    for part in PARTS:
        images: Tensor = getattr(dataset, part).images
        lowest, highest = (float(end) for end in images.aminmax())
        if images.dtype == torch.float32 and not (lowest >= 0 and highest <= 1):
            raise InputError(
                f"{name}: images of {part} must be in [0,1], found {lowest:g} to {highest:g}"
            )
    return replace(dataset, info=replace(dataset.info, name=name))
