"""Checkpoints: trees of plain values and tensors in a safetensors file. Nothing is pickled."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hypergen.errors import InputError
from hypergen.weights_file import read_tensors, write_tensors

CHECKPOINT = "checkpoint.safetensors"
"""Its name in the folder of a run, and of a direct training cut short."""
_KEY = "hypergen.checkpoint"


def save(path: Path, tree: Any) -> None:
    """Write nested dicts, lists and tuples of None, bool, int, float, str and tensors.

    `path` is replaced at once or not at all. TypeError: anything else in the tree.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_encode(tree, tensors))
    write_tensors(path, tensors, {_KEY: structure})


def load(path: Path) -> Any:
    """The tree that `save` wrote, bit for bit, its tensors on the CPU.

    InputError: missing, damaged or foreign file.
    """
    tensors, header = read_tensors(path)
    if _KEY not in header:
        raise InputError(f"{path} is not a checkpoint of hypergen")
    return _decode(json.loads(header[_KEY]), tensors)


def restore(path: Path, load_state_dict: Callable[[Any], object]) -> Any:
    """Hands the tree of `load` to what continues from it, and returns it.

    InputError: as `load`, or it is the state of something else.
    """
    tree = load(path)
    try:
        load_state_dict(tree)
    except torch.OutOfMemoryError:  # a RuntimeError too, but no fault of the file
        raise
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} does not fit the settings beside it: it is of another training"
        ) from error
    return tree


# In JSON a list stands for a list and a plain value for itself (Python writes and reads floats
# exactly, NaN and infinity too); an object {kind: ...} stands for what JSON has not.


def _encode(node: Any, tensors: dict[str, Tensor]) -> Any:
    if node is None or isinstance(node, bool | int | float | str):
        return node
    if isinstance(node, Tensor):
        name = str(len(tensors))
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
