"""Reads torchvision's classification data sets through what they all have in common."""

import inspect
import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from hypergen.data.builtin import fetched
from hypergen.data.dataset import Dataset
from hypergen.data.memory import is_large, room
from hypergen.data.own import from_arrays
from hypergen.data.pixels import adapted, from_pillow, is_grey
from hypergen.data.wording import one_line
from hypergen.errors import InputError
from hypergen.registry import nearest

PARTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "EMNIST": ({"split": "balanced", "train": True}, {"split": "balanced", "train": False}),
    "FGVCAircraft": ({"split": "trainval"}, {"split": "test"}),
    "Imagenette": ({"split": "train"}, {"split": "val"}),
    "OxfordIIITPet": ({"split": "trainval"}, {"split": "test"}),
}
"""What tells the training from the test part where it is neither train=bool nor split="train"."""


def load_torchvision(
    kind: str, data_dir: Path, image_size: int | None = None, grey: bool = False
) -> Dataset:
    """The data set of torchvision's class of that name, such as KMNIST or CIFAR100.

    Any class whose items are a picture and one whole number. Its two parts become the training
    (and validation) part and the test part; one without parts is divided. EMNIST is its balanced
    split. Missing files are downloaded to `data_dir`.

    Raises:
        InputError: no such class, one that is made otherwise, pictures of different sizes when
            there is no `image_size`; files as from `fetched`.
    """
    name = f"torchvision:{kind}"
    reader = _reader(kind)
    options = _options(kind, reader)

    def read(download: bool) -> list[Any]:
        return [reader(data_dir, **chosen, download=download) for chosen in options]

    parts = fetched(name, data_dir, read)
    names = ("train", "test")[: len(parts)]
    arrays = {
        part: _held(items) or _collected(name, items, image_size, grey)
        for part, items in zip(names, parts, strict=True)
    }
    class_names = getattr(parts[0], "classes", None)
    if not _names_all(class_names, arrays["train"][1]):
        class_names = None  # named by numbers
    return from_arrays(name, arrays, "", image_size, grey, "NCHW", class_names)


def require_torchvision_kind(kind: str) -> None:
    """`InputError` unless torchvision has a data set of that name."""
    from torchvision import datasets

    if kind not in datasets.__all__:
        hint = nearest(kind, datasets.__all__)
        raise InputError(f'torchvision has no data set "{kind}"{hint}')


def _reader(kind: str) -> Callable[..., Any]:
    from torchvision import datasets

    require_torchvision_kind(kind)
    return getattr(datasets, kind)


def _options(kind: str, reader: Callable[..., Any]) -> tuple[dict[str, Any], ...]:
    """What the class is to be called with for each of its parts."""
    takes = inspect.signature(reader).parameters
    anything = any(each.kind is each.VAR_KEYWORD for each in takes.values())
    if "root" not in takes or not ("download" in takes or anything):
        raise InputError(
            f"torchvision:{kind} cannot be read: it has none of torchvision's usual forms (root, "
            "train or split, download)"
        )
    if kind in PARTS:
        return PARTS[kind]
    if "train" in takes:
        return {"train": True}, {"train": False}
    if "split" in takes:
        return {"split": "train"}, {"split": "test"}
    return ({},)


def _held(items: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """The arrays uint8 [N,C,H,W] and [N] that most sets hold, if their items are these, else None.

    To ask for 70000 pictures one by one takes seconds.
    """
    images = getattr(items, "data", None)
    labels = np.asarray(getattr(items, "targets", getattr(items, "labels", None)))
    if not isinstance(images, np.ndarray | Tensor) or labels.shape != (len(items),):
        return None
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) != len(items):
        return None
    forms = [images[:, None]] if images.ndim == 3 else [images, images.transpose(0, 3, 1, 2)]
    for form in forms:
        rows = {0, len(items) // 2, len(items) - 1} if len(items) else ()
        if all(_is_item(items[row], form[row], labels[row]) for row in rows):
            return form, labels
    return None


def _is_item(item: Any, pixels: np.ndarray, label: Any) -> bool:
    picture, number = item
    known = isinstance(picture, Image.Image) and np.array_equal(number, label)
    return known and np.array_equal(from_pillow(picture, grey=len(pixels) == 1), pixels)


def _collected(
    where: str, items: Any, image_size: int | None, grey: bool
) -> tuple[np.ndarray, np.ndarray]:
    """All pictures of a part, uint8 [N,C,H,W], and their labels int64 [N]."""
    images, labels = np.empty((0, 0, 0, 0), np.uint8), np.empty(len(items), np.int64)
    for row in range(len(items)):
        try:
            picture, label = items[row]
            labels[row] = operator.index(label)
            one_channel = grey or is_grey(picture.mode) if row == 0 else images.shape[1] == 1
            if one_channel and not grey and not is_grey(picture.mode):
                raise InputError("a colour image among grey ones; give `grey` to turn all grey")
            pixels = adapted(from_pillow(picture, one_channel)[None], image_size, grey=False)[0]
        except Exception as error:  # a damaged file, or items of another kind
            reason = error if isinstance(error, InputError) else one_line(error)
            raise InputError(f"{where}: item {row} is no image with a class ({reason})") from error
        if row == 0:
            shape = (len(items), *pixels.shape)
            images = room(shape, np.dtype(np.uint8), is_large(math.prod(shape)))
        if pixels.shape != images.shape[1:]:
            raise InputError(
                f"{where}: images differ in size, {list(images.shape[2:])} and "
                f"{list(pixels.shape[1:])}; give `image_size` to resize all"
            )
        images[row] = pixels.numpy()
    return images, labels


def _names_all(names: Any, labels: np.ndarray) -> bool:
    """Whether the attribute `classes` holds a string for each class."""
    return (
        isinstance(names, list | tuple)
        and all(isinstance(name, str) for name in names)
        and len(names) == labels.max(initial=-1) + 1
    )
