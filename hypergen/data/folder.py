"""Reads pictures from a folder with a sub-folder for each class."""

import math
import os
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hypergen.data.dataset import Dataset, DatasetInfo
from hypergen.data.pixels import adapted, from_pillow, is_grey
from hypergen.data.splitting import CHUNK_BYTES, PARTS, Source, build
from hypergen.data.wording import one_line
from hypergen.errors import InputError

MIN_AT_ONCE = 8
"""Pictures decoded side by side, however large they are."""


def load_folder(path: str, image_size: int | None = None, grey: bool = False) -> Dataset:
    """The data set in a folder with a sub-folder for each class, named by its sub-folders.

    The classes stand in PATH/train, PATH/test and perhaps PATH/val, or in PATH itself. Each file
    in them is a picture that Pillow reads, unless its name begins with a dot. They are grey if all
    are, otherwise in colour. What is transparent is laid on white, 16 bits are rounded to 8, of an
    animation the first frame is taken, and an EXIF rotation is not applied.

    Raises:
        InputError: a folder that is not there, has no images or one class alone; a file that is
            no whole picture; sizes that differ when there is no `image_size`.
    """
    name = f"folder:{path}"
    roots = _roots(name, path)
    class_names = tuple(folder.name for folder in _class_folders(roots["train"]))
    if len(class_names) < 2:
        raise InputError(
            f"{name}: expected a sub-folder for each of at least 2 classes in "
            f"{roots['train']}, found {len(class_names)}"
        )
    listed = {part: _files(root, class_names) for part, root in roots.items()}
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about what it reads nevertheless
        every = [file for files, _ in listed.values() for file in files]
        headers = list(pool.map(_header, every))
        one_channel = grey or all(is_grey(mode) for _, mode in headers)
        height, width = (image_size,) * 2 if image_size else _one_size(every, headers)
        shape = (1 if one_channel else 3, height, width)

        def source(files: list[Path], labels: np.ndarray) -> Source:
            decode = partial(_decoded, shape=shape, resize=image_size is not None)

            def read(rows: np.ndarray) -> Tensor:
                return torch.stack(list(pool.map(decode, (files[row] for row in rows))))

            return Source(labels, read, max(MIN_AT_ONCE, CHUNK_BYTES // math.prod(shape)))

        sources = {part: source(*found) for part, found in listed.items()}
        return build(DatasetInfo(name, shape, class_names), torch.uint8, sources)


def require_folder_there(path: str) -> None:
    """`InputError` unless there is such a folder."""
    where = f"folder:{path}"
    try:
        found = bool(path) and Path(path).expanduser().is_dir()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, a home of nobody, ...
        raise InputError(f"{where}: {one_line(error)}") from error
    if not found:
        raise InputError(f"{where}: there is no such folder; expected folder:PATH")


def _roots(where: str, path: str) -> dict[str, Path]:
    """Part -> folder of its class folders; train alone where the parts are not given."""
    require_folder_there(path)
    root = Path(path).expanduser()
    roots = {part: root / part for part in PARTS}
    if not roots["train"].is_dir() or not any(each.is_dir() for each in _visible(roots["train"])):
        return {"train": root}  # a folder train without sub-folders is a class
    if not roots["test"].is_dir():
        raise InputError(f"{where}: there is a folder train, but none called test beside it")
    return {part: folder for part, folder in roots.items() if folder.is_dir()}


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, without hidden files."""
    try:
        return sorted(each for each in folder.iterdir() if not each.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error


def _class_folders(root: Path) -> list[Path]:
    return [each for each in _visible(root) if each.is_dir()]


def _files(root: Path, class_names: tuple[str, ...]) -> tuple[list[Path], np.ndarray]:
    """All pictures below a part's folder, class by class, and their labels."""
    files, labels = [], []
    for folder in _class_folders(root):
        if folder.name not in class_names:
            raise InputError(
                f"{folder}: there is no such class in the training part; "
                f"classes: {', '.join(class_names):.200}"
            )
        found = _visible(folder)
        if not found:
            raise InputError(f"{folder}: the folder of this class has no images")
        files += found
        labels += [class_names.index(folder.name)] * len(found)
    if not files:
        raise InputError(f"{root}: there are no folders of classes in it")
    return files, np.array(labels, np.int64)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The picture in a file. `InputError`: there is none, or it cannot be used."""
    try:
        if not path.is_file():  # to open a pipe would wait for ever
            raise InputError("no file; a class folder holds images alone")
        with Image.open(path) as image:
            yield image
    except Exception as error:  # Pillow raises anything at all on damaged files
        reason = error if isinstance(error, InputError) else one_line(error)
        raise InputError(f"{path}: unreadable image ({reason})") from error


def _header(path: Path) -> tuple[tuple[int, int], str]:
    """((height, width), Pillow's mode) of a picture, which is not decoded."""
    with _opened(path) as image:
        return (image.height, image.width), image.mode


def _one_size(files: list[Path], headers: list[tuple[tuple[int, int], str]]) -> tuple[int, int]:
    """(height, width) of all pictures. `InputError`: they differ."""
    (height, width), _ = headers[0]
    for path, (size, _) in zip(files, headers, strict=True):
        if size != (height, width):
            raise InputError(
                f"images differ in size: {files[0]} has {width}x{height} pixels, "
                f"{path} {size[1]}x{size[0]}; give `image_size` to resize all"
            )
    return height, width


def _decoded(path: Path, shape: tuple[int, int, int], resize: bool) -> Tensor:
    """A file's picture as uint8 of that shape [C,H,W]."""
    with _opened(path) as image:
        pixels = from_pillow(image, grey=shape[0] == 1)
        if resize:
            pixels = adapted(pixels[None], shape[1], grey=False)[0]
        if pixels.shape != shape:
            raise InputError(f"its size is not the {shape[2]}x{shape[1]} that its header says")
        return pixels
