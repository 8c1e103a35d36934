"""State_dicts of other libraries, `.pt` or `.safetensors`, read without running their code."""

import pickle
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hypergen.errors import InputError
from hypergen.storage.tensor_files import read_tensors, require_file
from hypergen.storage.weights import fill

NESTS = "state_dict", "model_state_dict", "model", "net", "weights"
"""Where libraries put a state_dict among other things."""
PREFIXES = "module.", "model.", "net."
"""What stands before all names when a module was saved within another, as by DataParallel."""
_COMPILED = "_orig_mod."
"""What torch.compile puts before the names of what it compiled."""
_MAX_DEPTH = 4


def load_external(path: Path, module: nn.Module) -> nn.Module:
    """Returns `module` with the weights of an external file, in eval mode.

    InputError: as from `read_external`, or weights that do not fit the module.
    """
    return fill(module, read_external(path, module.state_dict().keys()), path)


def read_external(path: Path, names: Collection[str] = ()) -> dict[str, Tensor]:
    """Returns the state_dict, on the CPU, of any .safetensors or .pt file.

    One nested in `NESTS` is found. `PREFIXES` that stand before all its names and not before all
    `names`, those of the module that it is for, are left out.

    Raises:
        InputError: a missing or damaged file, a file with code in it, or without a state_dict.
    """
    path = require_file(path)
    state = read_tensors(path)[0] if path.suffix == ".safetensors" else _read_pickled(path)
    while prefix := next((p for p in PREFIXES if _before(p, state) and not _before(p, names)), ""):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _before(prefix: str, names: Collection[str]) -> bool:
    return bool(names) and all(name.startswith(prefix) for name in names)


def _read_pickled(path: Path) -> dict[str, Tensor]:
    _require_uncompressed(path)
    try:
        tree = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"refused: {path} is not a plain state_dict, and anything else could run code; "
            "write one by torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # what torch.load raises on damaged bytes is not documented
        raise InputError(f"cannot read {path}: not a PyTorch file, or damaged") from error
    state = _nested(tree)
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise InputError(f"{path} holds no state_dict (tensors by name)")
    return state


def _require_uncompressed(path: Path) -> None:
    # PyTorch compresses nothing, and a few kilobytes could unfold to more than the memory holds.
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            size = sum(record.file_size for record in archive.infolist())
    except Exception as error:
        raise InputError(f"cannot read {path}: not a PyTorch file, or damaged") from error
    if size > path.stat().st_size:
        raise InputError(f"refused: {path} is compressed; write it by torch.save")


def _nested(tree: Any) -> dict[Any, Any]:
    """The innermost dict that the names of `NESTS` lead to; {} for anything else than a dict."""
    for _ in range(_MAX_DEPTH):  # a dict may hold itself
        inner = [tree[key] for key in NESTS if isinstance(tree, dict) and key in tree]
        tree = next((part for part in inner if isinstance(part, dict)), tree)
    return {_plain(key): part for key, part in tree.items()} if isinstance(tree, dict) else {}


def _plain(name: Any) -> Any:
    return name.replace(_COMPILED, "") if isinstance(name, str) else name
