"""Finds data sets by name and loads them: shipped ones, files of the user, registered functions."""

import math
import os
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hypergen.catalog import call_by_name
from hypergen.data import builtin
from hypergen.data.dataset import Dataset, Split
from hypergen.data.folder import load_folder, require_folder_there
from hypergen.data.memory import Need, is_large, require_memory, room
from hypergen.data.npz import load_npz, require_npz_there
from hypergen.data.own import from_returned
from hypergen.data.pixels import adapted, require_image_size
from hypergen.data.splitting import CHUNK_BYTES, PARTS
from hypergen.data.torchvision_sets import load_torchvision, require_torchvision_kind
from hypergen.data.wording import one_line
from hypergen.errors import InputError
from hypergen.registry import Registry
from hypergen.storage.folders import expanded

FAMILIES: dict[str, Callable[..., Dataset]] = {
    "folder": load_folder,
    "npz": load_npz,
    "torchvision": load_torchvision,
}
REQUIRED: dict[str, Callable[[str], None]] = {
    "folder": require_folder_there,
    "npz": require_npz_there,
    "torchvision": require_torchvision_kind,
}
"""Family -> what refuses a PATH or NAME of nothing, before anything is read."""


def _family(name: str) -> Callable[..., Dataset] | None:
    """What loads folder:PATH, npz:PATH and torchvision:NAME."""
    family, colon, rest = name.partition(":")
    return partial(FAMILIES[family], rest) if colon and family in FAMILIES else None


DATASETS: Registry[Callable[..., Any]] = Registry("data set", builtin.MAKERS, _family)
"""Name -> a function that takes any of (data_dir, image_size, grey) by name, or nothing.

It returns (images, labels), or a tuple of two or three such pairs for train, test or train, val,
test, as arrays or tensors, or a `Dataset`. What `from_arrays` says of images and labels holds.
"""


def load(
    name: str,
    data_dir: Path | str | None = None,
    device: torch.device | str = "cpu",
    image_size: int | None = None,
    grey: bool = False,
) -> Dataset:
    """A data set with its fixed splits, on `device`.

    name: a shipped or registered one, folder:PATH with a sub-folder for each class, npz:PATH, or
        torchvision:NAME.
    data_dir: a torchvision root folder; None means HYPERGEN_DATA, else ~/.cache/hypergen. Missing
        files are downloaded there; `digits`, folders and npz files need none.
    image_size: images are resized to a square of so many pixels a side; None leaves them.
    grey: colour images are turned grey.

    Raises:
        InputError: an unknown name; files that are damaged, or missing and not to be downloaded;
            images or labels that no data set can be made of.
    """
    require_image_size(image_size)
    folder = expanded(data_dir or os.environ.get("HYPERGEN_DATA") or "~/.cache/hypergen")
    maker = DATASETS.get(name)
    options = {"data_dir": folder, "image_size": image_size, "grey": grey}
    if name in builtin.INFOS or ":" in name:
        dataset = call_by_name(maker, **options)
    else:
        dataset = from_returned(name, _called(name, maker, options), image_size, grey)
    return _adapted(dataset, image_size, grey).to(device)


def require_known(name: str) -> None:
    """`InputError` for the name of no data set; no file is looked at."""
    DATASETS.get(name)


def require_there(name: str) -> None:
    """`InputError` for the name of no data set, or for a path where there is none; nothing is read.

    What only the files, or a function of the user's, can tell is told by `load`.
    """
    require_known(name)
    family, colon, rest = name.partition(":")
    if colon:
        REQUIRED[family](rest)


def usual_epsilon(name: str) -> float | None:
    """The usual Linf threat on a data set, for pixels in [0,1]; None on a user's own.

    `InputError`: an unknown name.
    """
    require_known(name)
    return builtin.INFOS[name].epsilon if name in builtin.INFOS else None


def _called(name: str, maker: Callable[..., Any], options: dict[str, Any]) -> Any:
    """What a user's function returns. `InputError`, with its line: it fails."""
    try:
        return call_by_name(maker, **options)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
    except Exception as error:
        code = getattr(maker, "__code__", None)
        frames = traceback.extract_tb(error.__traceback__)
        lines = [each.lineno for each in frames if code and each.filename == code.co_filename]
        place = f" in line {lines[-1]} of {code.co_filename}" if code and lines else ""
        raise InputError(f"{name}: the function failed{place}: {one_line(error)}") from error


def _adapted(dataset: Dataset, image_size: int | None, grey: bool) -> Dataset:
    """The data set with images of that size, grey if asked; itself where they are so already."""
    channels, *size = dataset.input_shape
    if (image_size is None or size == [image_size] * 2) and not (grey and channels != 1):
        return dataset

    splits: dict[str, Split] = {part: getattr(dataset, part) for part in PARTS}
    channels, height, width = adapted(splits["train"].images[:1], image_size, grey).shape[1:]
    shape, kind = (channels, height, width), str(splits["train"].images.dtype)[6:]
    total = sum(map(len, splits.values())) * math.prod(shape) * np.dtype(kind).itemsize
    require_memory([Need(total, "lower `image_size`")])
    mapped = is_large(total)
    at_once = max(1, CHUNK_BYTES // (4 * max(math.prod(shape), math.prod(dataset.input_shape))))

    def adapt(split: Split) -> Split:
        images = torch.from_numpy(room((len(split), *shape), np.dtype(kind), mapped))
        for there, part in zip(images.split(at_once), split.images.split(at_once), strict=True):
            there.copy_(adapted(part, image_size, grey))
        return Split(images, split.labels)

    parts = {part: adapt(split) for part, split in splits.items()}
    return Dataset(replace(dataset.info, input_shape=shape), **parts)
