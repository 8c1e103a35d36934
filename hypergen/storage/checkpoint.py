"""Checkpoints: trees of plain values and tensors in a safetensors file.

Beside the newest one lies the one before it, which is used where the newest one is damaged.
"""

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergen.errors import InputError, is_out_of_memory
from hypergen.storage.atomic import former
from hypergen.storage.tensor_files import PART, passing, read_tensors, write_tensors

CHECKPOINT = "checkpoint.safetensors"
"""Its name in the folder of a run, and of a direct training cut short."""
_TREE, _DIGEST = "hypergen.checkpoint", "hypergen.checkpoint.sha256"


def save(path: Path, tree: Any) -> None:
    """Writes nested dicts, lists and tuples of None, bool, int, float, str and tensors.

    `path` is replaced at once or not at all; the checkpoint that it was becomes the one before.
    TypeError: anything else in the tree.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(tree, tensors))
    tensors = {name: tensor.detach().cpu() for name, tensor in tensors.items()}
    header = {_TREE: structure, _DIGEST: _digest(structure, tensors)}
    write_tensors(path, tensors, header, keep_former=True)


def exists(path: Path) -> bool:
    """Whether there is a checkpoint at `path`, or the one before it."""
    return path.exists() or former(path).exists()


def remove(path: Path) -> None:
    """Removes the checkpoint at `path` and the one before it."""
    former(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def load(path: Path) -> Any:
    """Returns the tree that `save` wrote, bit for bit, its tensors on the CPU.

    That of the checkpoint before where the newest one is not as it was written; a warning says so.
    InputError: neither is.
    """
    return _newest(path)[1]


def _newest(path: Path, mapped: bool = False) -> tuple[Path, Any]:
    """The newest checkpoint that is as it was written: its file and its tree, as from `load`.

    mapped: as of `read_tensors`.
    """
    try:
        return path, _read(path, mapped)
    except InputError as error:
        before = former(path)
        if not before.exists():
            raise
        try:
            tree = _read(before, mapped)
        except InputError:
            both = f"{path} and the checkpoint before it, {before}, are damaged"
            raise InputError(f"{both}: {error}; remove both to begin anew") from None
        warnings.warn(f"{error}; {before}, the checkpoint before it, is used", stacklevel=2)
        return before, tree


def _read(path: Path, mapped: bool) -> Any:
    """The tree of one file. InputError: missing, damaged, external, or changed since."""
    tensors, header = read_tensors(path, mapped)
    if _TREE not in header:
        raise InputError(f"{path} is not a checkpoint of hypergen")
    if header.get(_DIGEST) != _digest(header[_TREE], tensors, mapped):
        raise InputError(f"{path} is damaged: it is not as it was written")
    return _decode(json.loads(header[_TREE]), tensors)


def restore(path: Path, load_state_dict: Callable[[Any], object]) -> Any:
    """Hands the tree of `load` to what continues from it, and returns it.

    Its tensors are views of the file, so that a large state is not held twice while networks take
    it over: who keeps one, keeps a copy.

    InputError: as from `load`, or the tree is the state of something else.
    """
    tree = _newest(path, mapped=True)[1]
    _hand_over(tree, load_state_dict, path)
    return tree


def resume(path: Path, load_state_dict: Callable[[Any], object]) -> Any:
    """Does as `restore` for what goes on to save to `path`.

    So a damaged checkpoint is replaced by the one before, which else it would push out.
    """
    newest, tree = _newest(path, mapped=True)
    _hand_over(tree, load_state_dict, path)
    if newest != path:
        newest.replace(path)
    return tree


def _hand_over(tree: Any, load_state_dict: Callable[[Any], object], path: Path) -> None:
    try:
        load_state_dict(tree)
    except InputError:  # which says more
        raise
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        if is_out_of_memory(error):  # no fault of the file
            raise
        raise InputError(
            f"{path} does not fit the settings beside it: it is of another training"
        ) from error


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Hands an optimizer its moments; its settings are those that it was made with.

    ValueError for moments of parameters of other shapes, or for none: PyTorch would notice at the
    next step.
    """
    own = optimizer.state_dict()["param_groups"]
    numbers = [group["params"] for group in own]
    if [group["params"] for group in state["param_groups"]] != numbers:
        raise ValueError("the optimizer's state has other parameters")
    if not set(state["state"]) <= set(sum(numbers, [])):
        raise ValueError("the optimizer's state has moments of no parameter")
    kept = {
        number: {
            name: moment.clone() if isinstance(moment, Tensor) else moment
            for name, moment in moments.items()
        }
        for number, moments in state["state"].items()
    }
    optimizer.load_state_dict({"state": kept, "param_groups": own})
    names = {tuple(moments) for moments in optimizer.state.values()}
    if len(names) > 1:
        raise ValueError(f"the optimizer's state has different parts: {names}")
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if not isinstance(moment, Tensor) or moment.shape not in ((), parameter.shape):
                raise ValueError(
                    f"the optimizer's state has {name} {getattr(moment, 'shape', moment)!r:.60}, "
                    f"its parameter is {list(parameter.shape)}"
                )


def _digest(structure: str, tensors: Mapping[str, Tensor], mapped: bool = False) -> str:
    digest = hashlib.sha256(structure.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        whole = tensor.contiguous()
        large = mapped and whole.numel() > PART
        for part in passing(whole) if large else [whole.view(-1)]:
            digest.update(part.view(torch.uint8).numpy().data)
    return digest.hexdigest()


# In JSON a list stands for a list and a plain value for itself (Python writes and reads floats
# exactly, NaN and infinity too); an object {kind: ...} stands for what JSON has not.


def _encode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Tensor):
        known = (name for name, tensor in tensors.items() if _is_same(tensor, node))
        name = next(known, str(len(tensors)))
        tensors[name] = node
        return {"tensor": name}
    if isinstance(node, list):
        return [_encode(item, tensors) for item in node]
    if isinstance(node, tuple):
        return {"tuple": [_encode(item, tensors) for item in node]}
    if isinstance(node, dict):
        # Pairs, since JSON's keys are only strings and an optimizer's are numbers.
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in node.items()]}
    raise TypeError(f"a checkpoint cannot hold a {type(node).__name__}")


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Whether both are the same numbers in memory, which are written once."""
    return (
        one.numel() > 0
        and one.data_ptr() == other.data_ptr()
        and (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
    )


def _decode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(node, list):
        return [_decode(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    (kind, value), *_ = node.items()
    if kind == "tensor":
        return tensors[value]
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in value)
    return {_decode(k, tensors): _decode(v, tensors) for k, v in value}
