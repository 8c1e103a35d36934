"""Weight files: safetensors with a state_dict's names, and JSON metadata. Nothing is pickled."""

import contextlib
import json
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

import targets
from hypergen.errors import InputError
from hypergen.tracking import replacing

_KEY = "hypergen"
_PARALLEL = "module."


def save_network(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Write a network's state_dict and its JSON-able metadata; `path` is replaced at once or not.

    Plain PyTorch opens it: `load_state_dict(safetensors.torch.load_file(path))`.
    """
    write_tensors(path, state, {_KEY: json.dumps(metadata)})


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a weight file. InputError: missing, damaged or foreign file."""
    return _metadata(path, _header(path))


def metadata_if_ours(path: Path) -> dict[str, Any] | None:
    """As `read_metadata`, None for a file without any: a foreign one."""
    header = _header(path) if Path(path).suffix == ".safetensors" else {}
    return _metadata(path, header) if _KEY in header else None


def read_network(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A weight file's state_dict (on the CPU) and metadata. InputError as `read_metadata`."""
    state, header = read_tensors(path)
    return state, _metadata(path, header)


def read_foreign(path: Path) -> dict[str, Tensor]:
    """The state_dict (on the CPU) of any .safetensors, or of a .pt read without running its code.

    A state_dict nested under "state_dict" or "model" is found, and "module.", which DataParallel
    puts before every name, left out. InputError: missing or damaged file, a file with more in it
    than tensors, or no state_dict in it.
    """
    state = _read_foreign(Path(path))
    parallel = all(name.startswith(_PARALLEL) for name in state)
    return {name.removeprefix(_PARALLEL): t for name, t in state.items()} if parallel else state


def _read_foreign(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"refused: {path} is not a plain state_dict, and anything else could run code; "
            "write one by torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:  # what torch.load raises on damaged bytes is not documented
        raise InputError(f"cannot read {path}: not a PyTorch file, or damaged") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items())
    ):
        raise InputError(f"{path} holds no state_dict (tensors by name)")
    return state


def load_network(path: Path) -> nn.Module:
    """The network of a weight file, ready to use: on the CPU, in eval mode.

    InputError: missing, damaged or foreign file, or weights that do not fit the target it names.
    """
    state, metadata = read_network(path)
    try:
        module = targets.build(
            metadata["target"],
            activation=metadata["activation"],
            num_classes=metadata["num_classes"],
            input_shape=tuple(metadata["input_shape"]),
        )
        expected, given = targets.WeightLayout.of(module).fingerprint, metadata["layout"]
    except KeyError as error:
        raise InputError(f"{path}: its metadata lacks {error}") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    if expected != given:
        raise InputError(
            f"{path}: its layout is {given}, but {metadata['target']} here has {expected}"
        )
    return fill(module, state, path)


def fill(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> nn.Module:
    """`module`, its parameters and buffers set to `state`, in eval mode.

    InputError naming `source`: other names or shapes than the module's, integers for numbers, or a
    value not finite.
    """
    wanted = module.state_dict()
    for problem, keys in (
        ("lacks", wanted.keys() - state.keys()),
        ("has unknown", state.keys() - wanted.keys()),
    ):
        if keys:
            more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            raise InputError(f"{source}: {problem} {', '.join(sorted(keys)[:3])}{more}")
    for key, tensor in state.items():
        if tensor.shape != wanted[key].shape:
            raise InputError(
                f"{source}: {key} has shape {list(tensor.shape)}, "
                f"expected {list(wanted[key].shape)}"
            )
        if tensor.is_floating_point() != wanted[key].is_floating_point():
            raise InputError(f"{source}: {key} is {tensor.dtype}, expected {wanted[key].dtype}")
        if not tensor.isfinite().all():
            raise InputError(f"{source}: {key} holds NaN or infinity")
    module.load_state_dict(state)
    return module.eval()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """A safetensors file of `tensors` (any device and strides) and the texts of `header`.

    Written to a temporary name, synced and renamed: `path` is never seen half-written.
    """
    # safetensors refuses tensors that share memory, as tied weights and views do.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with replacing(Path(path)) as part:
        try:
            safetensors.torch.save_file(plain, part, dict(header))
        except SafetensorError as error:  # no space left, say; it is no OSError of its own
            raise OSError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the header texts of a safetensors file. InputError: missing or damaged."""
    with _opened(path) as file:
        # Copies, since what it gives are views of the file, and the file may change.
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        return tensors, file.metadata() or {}


def _header(path: Path) -> dict[str, str]:
    """As `read_tensors`, without the tensors, which may be many."""
    with _opened(path) as file:
        return file.metadata() or {}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    if Path(path).is_dir():
        raise InputError(f"{path} is a folder; name a .safetensors file in it")
    try:
        with safe_open(path, "pt") as file:
            yield file
    except FileNotFoundError as error:
        raise InputError(f"no file {path}") from error
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read {path}: not a safetensors file, or damaged") from error


def _metadata(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    try:
        metadata = json.loads(header.get(_KEY, ""))
    except json.JSONDecodeError:
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"{path} was not written by hypergen: it has no metadata of its kind")
    return metadata
