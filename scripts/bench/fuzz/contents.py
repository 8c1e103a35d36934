"""Changes at random what is in a file, which stays sound: tensors, arrays, pictures, source."""

import io
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from hypergen.storage import checkpoint
from scripts.bench.fuzz.mutations import TEXTS, nodes, replacement, short, write


def change_tensor(tensor: Tensor, rng: Random) -> tuple[Tensor, str]:
    """Another tensor in the place of one."""
    kind = rng.choice(("dtype", "shape", "value", "size", "zeros"))
    if kind == "dtype":
        dtype = rng.choice((torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64))
        return tensor.to(dtype), f"{dtype}"
    if kind == "shape":
        shape = rng.choice(((-1,), (1, -1), (-1, 1), (1, *tensor.shape)))
        return tensor.reshape(shape), f"shape {shape}"
    if kind == "value" and tensor.numel() and tensor.is_floating_point():
        tensor = tensor.clone()
        value = rng.choice((math.nan, math.inf, 3e38, -1e30, 1e-40))
        tensor.view(-1)[rng.randrange(tensor.numel())] = value
        return tensor, f"{value}"
    if kind == "size":
        return rng.choice((torch.zeros(0), torch.zeros(()), torch.ones(3), tensor[:1])), "size"
    return torch.zeros_like(tensor), "zeros"


def _change_state(state: dict[str, Any], rng: Random) -> str:
    names = [name for name, value in state.items() if isinstance(value, Tensor) and value.ndim]
    if not names:
        return "nothing"
    name, kind = (
        rng.choice(names),
        rng.choice(("change", "change", "change", "drop", "add", "name")),
    )
    if kind == "drop":
        del state[name]
    elif kind == "add":
        state[rng.choice(TEXTS[:5])] = torch.ones(2)
    elif kind == "name":
        state[rng.choice(("module.", "_orig_mod.", "\n", "x" * 500)) + name] = state.pop(name)
    else:
        state[name], kind = change_tensor(state[name], rng)
    return f"tensor {name}: {kind}"


def safetensors_tensors(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes a tensor; the file stays a sound one."""
    with safetensors.safe_open(path, "pt") as file:
        header = file.metadata()
        state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    done = _change_state(state, rng)
    write(path, safetensors.torch.save(state, header))
    return done


def checkpoint_tree(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes a value or tensor of a checkpoint, which stays a sound file."""
    tree = checkpoint.load(path)
    parents = [node for node in nodes(tree) if isinstance(node, dict) and node]
    parent = rng.choice(parents)
    if rng.random() < 0.5 and any(isinstance(value, Tensor) for value in parent.values()):
        done = _change_state(parent, rng)
    else:
        key = rng.choice(list(parent))
        value = replacement(rng)
        if rng.random() < 0.3:
            del parent[key]
        else:
            parent[key] = value
        done = f"{key!r} := {short(value)} or gone"
    path.unlink()
    checkpoint.save(path, tree)
    return f"checkpoint: {done}"


def pickled(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes a tensor of a .pt file, or what is around it."""
    state = dict(torch.load(path, weights_only=True))
    done = _change_state(state, rng)
    around = rng.choice((None, None, "state_dict", "model", "odd"))
    tree: Any = state if around is None else {around: state, "epoch": 3}
    if rng.random() < 0.2:
        tree = rng.choice((list(state.values()), None, 3, {1: 2}, {"state_dict": None}, [state]))
        done = f"{type(tree).__name__}"
    if rng.random() < 0.2:
        name = next(iter(state))
        state[name] = rng.choice((state[name].to_sparse(), state[name].to("meta"), None, "x"))
    buffer = io.BytesIO()
    torch.save(tree, buffer)
    write(path, buffer.getvalue())
    return f"pt: {done} in {around}"


def npz(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes an array of an .npz file."""
    with np.load(path) as archive:
        arrays = dict(archive)
    name = rng.choice(list(arrays))
    array, labels = arrays[name], name == "labels"
    made: dict[str, Callable[[], Any]] = {
        "gone": lambda: None,
        "float": lambda: array / (1 if labels else 255),
        "nan": lambda: np.where(array == array.max(), np.nan, array),
        "negative": lambda: array.astype("i8") - 5,
        "huge": lambda: array.astype("i8") * 10**15,
        "bool": lambda: array > 3,
        "text": lambda: array.astype(str),
        "object": lambda: array.astype(object),
        "big-endian": lambda: array.astype(">f4"),
        "half": lambda: (array / 255).astype("f2"),
        "complex": lambda: array + 0j,
        "short": lambda: array[:7],
        "empty": lambda: array[:0],
        "flat": lambda: array.reshape(len(array), -1),
        "column": lambda: array[..., None],
        "scalar": lambda: array.ravel()[0],
        "fortran": lambda: np.asfortranarray(array),
        "one": lambda: np.zeros_like(array),
        "dates": lambda: array.astype("M8[s]"),
        "records": lambda: np.zeros(len(array), [("a", "i4")]),
        "one hot": lambda: np.eye(10)[np.arange(40) % 10],
        "large label": lambda: np.where(array > 8, 10**7, array.astype("i8")),
    }
    kind = rng.choice(list(made))
    arrays[name] = made[kind]()
    if arrays[name] is None:
        del arrays[name]
    path.unlink()
    np.savez(path, **arrays)
    return f"npz: {name} {kind}"


def png(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes the size or kind that a picture's header tells."""
    content = bytearray(path.read_bytes())
    kind = rng.choice(("width", "height", "depth", "colour"))
    at, form = {"width": (16, ">I"), "height": (20, ">I"), "depth": (24, "B"), "colour": (25, "B")}[
        kind
    ]
    value = rng.choice((0, 1, 2, 3, 4, 16) if form == "B" else (0, 1, 9, 5000, 60_000, 2**31 - 1))
    struct.pack_into(form, content, at, value)
    struct.pack_into(">I", content, 29, zlib.crc32(content[12:29]))
    write(path, bytes(content))
    return f"PNG: {kind} {value}"


LINES = (
    "raise ValueError('mine')", "raise SystemExit(3)", "import sys; sys.exit()", "print('hello')",
    "1 / 0", "import nowhere", "def broken(:", "hypergen.register_target('mlp')(print)",
    "hypergen.register_target('a b')(print)", "hypergen.register_target('odd')(3)",
    "hypergen.register_attack('odd')(lambda threat: 3)", "__all__ = [3]", "return None",
    "hypergen.register_activation('odd')(lambda: 3)", "del torch", "raise KeyboardInterrupt",
    "hypergen.register_dataset('noise2')(lambda: (torch.rand(3, 1, 8, 8), torch.arange(2)))",
)  # fmt: skip


def source(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes a line of a plugin: drops or doubles it, or puts another one in."""
    lines = path.read_text().splitlines()
    index = rng.randrange(len(lines))
    kind = rng.choice(("drop", "double", "put", "put", "number", "none"))
    indent = lines[index][: len(lines[index]) - len(lines[index].lstrip())]
    if kind == "drop":
        done = f"without {lines.pop(index).strip()!r}"
    elif kind == "double":
        lines.insert(index, lines[index])
        done = f"{lines[index].strip()!r} twice"
    elif kind == "put":
        lines.insert(index, indent + rng.choice(LINES))
        done = f"{lines[index].strip()!r} at line {index + 1}"
    else:
        lines[index] = indent + {"number": "return 3", "none": "pass"}[kind]
        done = f"{lines[index].strip()!r} in line {index + 1}"
    write(path, "\n".join(lines).encode() + b"\n")
    return f"source: {done}"
