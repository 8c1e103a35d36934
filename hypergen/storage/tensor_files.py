"""Safetensors files: tensors by name, and a header of texts. Nothing is pickled."""

import contextlib
import ctypes
import mmap
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hypergen.errors import InputError
from hypergen.storage.atomic import aside, replacing
from hypergen.storage.folders import expanded

PART = 2**24
"""Numbers of a large tensor that are passed on at a time: 64 MiB of them."""
MADV_PAGEOUT = 21
"""What Linux calls it, to be told that memory is not needed for now; of a file it is let go."""
_madvise = None
with contextlib.suppress(OSError, AttributeError, TypeError):  # another system
    _madvise = ctypes.CDLL(None).madvise if sys.platform == "linux" else None


def write_tensors(
    path: Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, str],
    keep_former: bool = False,
) -> None:
    """Writes tensors (of any device and strides) and header texts, at once or not at all.

    keep_former: the file that was there is kept (see `replacing`).
    """
    plain: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, tensor in tensors.items():
        plain[name] = own = tensor.detach().cpu()
        memory = own.untyped_storage().data_ptr()
        # safetensors refuses tensors that share memory, as tied weights and views do.
        if memory in known or not own.is_contiguous():
            plain[name] = own.clone(memory_format=torch.contiguous_format)
        known.add(memory)
    with replacing(path, keep_former) as part, aside(part) as file:
        try:
            safetensors.torch.save_file(plain, file, dict(header))
        except SafetensorError as error:  # no space left, say; it is no OSError of its own
            raise OSError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path, mapped: bool = False) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Returns the tensors, on the CPU, and the header texts. InputError: missing or damaged.

    mapped: the tensors take no memory of their own: they are views of the file, of which the system
    reads a part when it is looked at. Who keeps one, keeps a copy, for the file may change.
    """
    with _opened(path) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if not mapped:
            tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        return tensors, file.metadata() or {}


def passing(tensor: Tensor) -> Iterator[Tensor]:
    """A contiguous tensor on the CPU as flat parts, of which none stays in memory once passed.

    For what is looked at once: a view of a file then takes a part's memory, not all of its own.
    Other tensors keep their numbers, but may be moved to swap.
    """
    for part in tensor.view(-1).split(PART):
        yield part
        first = -(-part.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        size = part.data_ptr() + part.nbytes - first
        if size > 0 and _madvise is not None:  # where the system cannot, they stay
            _madvise(ctypes.c_void_p(first), ctypes.c_size_t(size), MADV_PAGEOUT)


def copied(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state, of which large tensors are copied into those of `own` that they are for.

    Part by part: to load from a view of a file then takes no memory beside what is loaded into.
    """
    return {name: _copied(given, own.get(name)) for name, given in state.items()}


def _copied(given: Tensor, own: Tensor | None) -> Tensor:
    if own is None or given.numel() <= PART or not _alike(given, own):
        return given
    for part, target in zip(passing(given), own.view(-1).split(PART), strict=True):
        target.copy_(part)
    return own


def _alike(given: Tensor, own: Tensor) -> bool:
    """Whether both are whole tensors in a CPU's memory, of one shape and type."""
    kinds = [(each.shape, each.dtype, each.device.type) for each in (given, own)]
    whole = given.is_contiguous() and own.is_contiguous()
    return kinds[0] == kinds[1] and own.device.type == "cpu" and whole


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, str]]:
    """Returns the shapes by name and the header texts, as `read_tensors` without the tensors."""
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return shapes, file.metadata() or {}


def require_file(path: Path) -> Path:
    """Returns the path, ~ expanded, of a file that can be read; `InputError` for anything else."""
    path = expanded(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder; name a file in it")
        if not stat.S_ISREG(mode):
            raise InputError(f"{path} is no ordinary file")
        path.open("rb").close()
    except FileNotFoundError:
        raise InputError(f"there is no file {path}") from None
    except OSError as error:  # permissions, a circle of links: the libraries tell another reason
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    return path


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    path = require_file(path)
    try:
        with safe_open(path, "pt") as file:
            yield file
    except Exception as error:  # what is raised on damaged bytes is not documented
        raise InputError(f"cannot read {path}: not a safetensors file, or damaged") from error
