"""Reads images and labels of an npz file, never more than it says beforehand, never a pickle."""

import math
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from hypergen.data.dataset import Dataset
from hypergen.data.memory import GIGABYTE, is_large, machine_memory, room
from hypergen.data.own import from_arrays
from hypergen.data.splitting import PARTS
from hypergen.data.wording import one_line
from hypergen.errors import InputError

KEYS = (
    {"train": ("images", "labels")},
    {"train": ("x", "y")},
    {part: (f"x_{part}", f"y_{part}") for part in PARTS},
    {part: (f"{part}_images", f"{part}_labels") for part in PARTS},
)
"""Names of the images and labels of each part, in the order in which they are looked for.

The validation part may be missing. The last names are those of MedMNIST.
"""
LAYOUTS = ("NCHW", "NHWC")
CHUNK_BYTES = 2**24
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load_npz(path: str, image_size: int | None = None, grey: bool = False) -> Dataset:
    """The data set in an npz file, whose arrays have the names of one row of `KEYS`.

    Arrays as `from_arrays` takes them; beside them may stand `layout`, the string NCHW or NHWC, and
    `class_names`, K strings.

    Raises:
        InputError: a file that is not there, damaged, pickled or too large; arrays that are
            missing or of another form.
    """
    name = f"npz:{path}"
    with _told(name), zipfile.ZipFile(Path(path).expanduser()) as archive:
        arrays = {
            part: (_read(archive, images), _read(archive, labels))
            for part, (images, labels) in _keys(archive).items()
        }
        class_names = _strings(archive, "class_names")
        (layout,) = _strings(archive, "layout") or (None,)
        if layout not in (None, *LAYOUTS):
            raise InputError(f"layout is {layout!r:.80}, expected NCHW or NHWC")
    return from_arrays(
        name,
        arrays,
        'save it again with layout="NCHW" or layout="NHWC" beside the images',
        image_size,
        grey,
        layout,
        class_names,
    )


def require_npz_there(path: str) -> None:
    """`InputError` unless there is such a file."""
    with _told(f"npz:{path}"):
        if not stat.S_ISREG(Path(path).expanduser().stat().st_mode):
            raise InputError("there is no such file; expected npz:PATH")


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Tells in one line, with the file's name, what is wrong with it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except OSError as error:
        raise InputError(f"{where}: {error.strerror or error}") from error
    except Exception as error:  # zipfile and numpy raise anything at all on damaged files
        raise InputError(f"{where}: no readable npz file ({one_line(error)})") from error


def _keys(archive: zipfile.ZipFile) -> dict[str, tuple[str, str]]:
    """Names of the arrays of each part. `InputError`: some are missing."""
    found = {name.removesuffix(".npy") for name in archive.namelist()}
    for keys in KEYS:
        there = {part for part, names in keys.items() if not found.isdisjoint(names)}
        if not there:
            continue
        wanted = {part: names for part, names in keys.items() if part != "val" or part in there}
        if missing := sorted({name for pair in wanted.values() for name in pair} - found):
            raise InputError(f"there is no array {' nor '.join(missing)} in it")
        return wanted
    raise InputError(
        "expected the arrays images and labels, or x and y, or x_train, y_train, x_test and "
        "y_test, or train_images, train_labels, test_images and test_labels in it, "
        f"found {', '.join(sorted(found)) or 'none':.200}"
    )


def _read(archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """One array, after a look at what its header says. `InputError`: too large, or objects."""
    info = archive.getinfo(f"{key}.npy")
    with archive.open(info) as file:
        shape, fortran_order, dtype = HEADERS[npy.read_magic(file)](file)
        if dtype.hasobject:
            raise InputError(f"{key} holds Python objects, which are not read: save numbers")
        size = math.prod(shape) * dtype.itemsize
        if info.file_size != file.tell() + size:
            raise InputError(f"{key} is damaged: it is not as long as its header says")
        if info.compress_type != zipfile.ZIP_STORED and size > machine_memory():
            raise InputError(
                f"{key} unpacks to {size / GIGABYTE:.1f} GB, more than the memory; "
                "save it with numpy.savez, not compressed"
            )
        content = room((size,), np.dtype(np.uint8), is_large(size))
        for start in range(0, size, CHUNK_BYTES):
            chunk = file.read(min(CHUNK_BYTES, size - start))
            content[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
            if len(chunk) < min(CHUNK_BYTES, size - start):
                raise InputError(f"{key} is damaged: it ends too early")
        file.read(1)  # only at the end the checksum is compared
    return content.view(dtype).reshape(shape, order="F" if fortran_order else "C")


def _strings(archive: zipfile.ZipFile, key: str) -> tuple[str, ...] | None:
    """The strings of an array that may be there. `InputError`: it holds something else."""
    if f"{key}.npy" not in archive.namelist():
        return None
    values = _read(archive, key)
    if values.dtype.kind != "U" or values.ndim > 1:
        raise InputError(f"the array {key} must hold strings, got {values.dtype}")
    return tuple(map(str, values.ravel()))
