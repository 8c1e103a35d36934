"""Weight files: safetensors with a state_dict's names, and JSON metadata."""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import targets
from hypergen.catalog import ACTIVATIONS, TARGETS, call_by_name
from hypergen.errors import InputError
from hypergen.registry import require_plugins
from hypergen.storage import metadata as fields
from hypergen.storage.tensor_files import read_header, read_tensors, write_tensors

_KEY = "hypergen"
_COUNT = "num_batches_tracked"
"""What batch norm does not need to be opened: files of other libraries go without it."""
_MAX_NAME = 80


def save_network(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> None:
    """Writes a network's state_dict and its JSON-able metadata, at once or not at all.

    Plain PyTorch opens the file: `load_state_dict(safetensors.torch.load_file(path))`.
    """
    write_tensors(path, state, {_KEY: json.dumps(metadata)})


def read_metadata(path: Path) -> dict[str, Any]:
    """Returns the metadata of a weight file. InputError: missing, damaged or external file."""
    return fields.parsed(read_header(path)[1].get(_KEY), path)


def is_own(path: Path) -> bool:
    """Whether `path` is a weight file with metadata. InputError: a missing or damaged file."""
    return Path(path).suffix == ".safetensors" and _KEY in read_header(path)[1]


def read_network(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns a weight file's state_dict, on the CPU, and its metadata; raises as `read_metadata`.

    Its metadata is read before its tensors.
    """
    metadata = read_metadata(path)
    return read_tensors(path)[0], metadata


@torch.inference_mode(False)
def load_network(path: Path) -> nn.Module:
    """Returns the network of a weight file, ready to use: on the CPU, in eval mode.

    Its attribute `metadata` is what the file says of it, as `read_metadata` gives it.
    No code is run but that of targets and of loaded plugins, and PyTorch's random state stays.

    Raises:
        InputError: a missing, damaged or external file, a plugin that it needs and that is not
            loaded, or weights that do not fit the target it names.
    """
    shapes, header = read_header(path)
    metadata = fields.parsed(header.get(_KEY), path)
    fields.require_complete(metadata, path)
    require_plugins(metadata.get("plugins") or [], str(path))
    # By its shapes first: metadata may ask for more than the memory holds.
    if _is_shipped(metadata, path) and _is_large(metadata):
        skeleton = _skeleton(metadata)
        if skeleton is not None:
            _require_fit(skeleton, shapes, metadata, path)
    module = _build(metadata, path)
    _require_fit(module, shapes, metadata, path)
    module.metadata = metadata  # pyright: ignore[reportArgumentType]
    return fill(module, read_tensors(path)[0], path)


def _is_shipped(metadata: Mapping[str, Any], path: Path) -> bool:
    """Whether no plugin makes the network: what a user wrote may need numbers to be made."""
    named = {TARGETS: metadata["target"], ACTIVATIONS: metadata["activation"]}
    try:
        return all(registry.origin(name) is None for registry, name in named.items())
    except (InputError, targets.TargetError) as error:  # an unknown name
        raise InputError(f"{path}: {error}") from None


def _is_large(metadata: Mapping[str, Any]) -> bool:
    """Whether a shipped target may take more than 100 MB."""
    return metadata["num_classes"] > 1000 or math.prod(metadata["input_shape"]) > 3 * 64 * 64


def _skeleton(metadata: Mapping[str, Any]) -> nn.Module | None:
    """The target without numbers; None where it cannot be made so, nor perhaps with them."""
    entry = TARGETS.get(metadata["target"])
    try:
        with torch.device("meta"):
            return call_by_name(
                entry.make if isinstance(entry, targets.Target) else entry,
                activation=metadata["activation"],
                num_classes=metadata["num_classes"],
                input_shape=tuple(metadata["input_shape"]),
            )
    except Exception:  # `_build` tells it
        return None


def _build(metadata: Mapping[str, Any], path: Path) -> nn.Module:
    # What a loaded plugin holds without having registered it, `targets` knows only then.
    TARGETS.get(metadata["target"])
    ACTIVATIONS.get(metadata["activation"])
    try:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            return targets.build(
                metadata["target"],
                activation=metadata["activation"],
                num_classes=metadata["num_classes"],
                input_shape=tuple(metadata["input_shape"]),
            )
    except (targets.TargetError, RuntimeError, MemoryError) as error:  # too large, say
        raise InputError(f"{path}: {' '.join(str(error).split())}") from error


def _require_fit(
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    metadata: Mapping[str, Any],
    path: Path,
) -> None:
    expected, given = targets.WeightLayout.of(module).fingerprint, metadata["layout"]
    if expected != given:
        raise InputError(
            f"{path}: its layout is {given}, but {metadata['target']} here has {expected}"
        )
    require_shapes(module, shapes, path)


def fill(module: nn.Module, state: Mapping[str, Tensor], source: Path) -> nn.Module:
    """Returns `module`, its parameters and buffers set to `state`, in eval mode.

    Counts of batches, which batch norm keeps and does not use here, may be missing.

    Raises:
        InputError: names `source`; other names or shapes than the module's, tensors without
            numbers, integers for fractions, or a value not finite as the module holds it.
    """
    for name, tensor in state.items():
        if tensor.is_meta or tensor.is_nested or tensor.layout != torch.strided:
            raise InputError(f"{source}: {name[:_MAX_NAME]!r} holds no plain numbers")
    require_shapes(module, {name: tuple(tensor.shape) for name, tensor in state.items()}, source)
    wanted = module.state_dict()
    for name, tensor in state.items():
        dtype = wanted[name].dtype
        if tensor.is_quantized or _kind(tensor.dtype) != _kind(dtype):
            raise InputError(f"{source}: {name} is {tensor.dtype}, expected {dtype}")
        if not tensor.to(dtype).isfinite().all():  # which may hold less than the file's
            raise InputError(f"{source}: {name} holds NaN or infinity")
    module.load_state_dict(dict(state))  # without PyTorch's notes, which make the counts needed
    return module.eval()


def require_shapes(module: nn.Module, shapes: Mapping[str, tuple[int, ...]], source: Path) -> None:
    """Refuses, by an `InputError` that names `source`, other names or shapes than the module's."""
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    needed = {name for name in wanted if name.rpartition(".")[2] != _COUNT}
    _require_none(needed - shapes.keys(), f"{source}: lacks")
    _require_none(shapes.keys() - wanted.keys(), f"{source}: has unknown")
    for name, shape in shapes.items():
        if shape != wanted[name]:
            raise InputError(
                f"{source}: {name} has shape {list(shape)}, expected {list(wanted[name])}"
            )


def _require_none(names: Collection[str], problem: str) -> None:
    if names:
        some = ", ".join(name[:_MAX_NAME] for name in sorted(names)[:3])
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(f"{problem} {' '.join(some.split())}{more}")


def _kind(dtype: torch.dtype) -> str:
    return "float" if dtype.is_floating_point else "complex" if dtype.is_complex else "integer"
