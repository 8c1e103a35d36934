"""Changes files at random: their bytes, their place, or their JSON."""

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

Mutation = Callable[[Path, Random, list[Path]], str]
"""Changes a file, given others to splice in, and says in a few words what it did."""

NUMBERS = (0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 10**30, 2**31, 2**63, math.nan, math.inf, 1e-320)
TEXTS = (
    "",
    "x",
    "x" * 3000,
    "a\nb",
    "\x1b[31m",
    "../../etc",
    "\ud800",
    "None",
    "1",
    "nan",
    "é" * 9,
)
OTHERS = (None, True, False, [], {}, [[]], [1, 2, 3], {"a": 1}, ["x"] * 1000, [None])


def replacement(rng: Random) -> Any:
    """A value of JSON that is seldom what was there."""
    return rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS)))


def change_json(tree: Any, rng: Random) -> tuple[Any, str]:
    """The tree with one node changed, and what was done."""
    parents = [node for node in nodes(tree) if node]
    if not parents or rng.random() < 0.03:
        value = replacement(rng)
        return value, f"all := {short(value)}"
    parent = rng.choice(parents)
    keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
    key = rng.choice(keys)
    kind = rng.choice(
        ("replace", "replace", "replace", "delete", "rename", "swap", "scale", "nest")
    )
    if kind == "delete":
        del parent[key]
        return tree, f"{key!r} deleted"
    if kind == "rename" and isinstance(parent, dict):
        parent[f"{key}s"] = parent.pop(key)
        return tree, f"{key!r} renamed"
    if kind == "scale" and type(parent[key]) in (int, float):
        parent[key] = parent[key] * rng.choice((-1, 1000, 10**9, 0.5))
        return tree, f"{key!r} := {parent[key]}"
    if kind == "swap":
        other = rng.choice(keys)
        parent[key], parent[other] = parent[other], parent[key]
        return tree, f"{key!r} and {other!r} swapped"
    parent[key] = [parent[key]] if kind == "nest" else replacement(rng)
    return tree, f"{key!r} := {short(parent[key])}"


def nodes(tree: Any) -> list[Any]:
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    own = [tree] if isinstance(tree, dict | list) else []
    return own + [node for child in children for node in nodes(child)]


def short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else f"{text[:50]}... ({len(text)} characters)"


def raw(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes some bytes."""
    content = bytearray(path.read_bytes())
    size = len(content)
    at = min(size, int(rng.choice((rng.random(), rng.random() ** 6)) * size))
    length = rng.choice((1, 2, 8, 100, size // 3))
    kind = rng.choice(
        ("flip", "flip", "cut", "delete", "double", "insert", "zero", "splice", "empty")
    )
    if kind == "flip":
        for _ in range(rng.choice((1, 1, 5))):
            if size:
                spot = min(size - 1, int(rng.choice((rng.random(), rng.random() ** 6)) * size))
                content[spot] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[at:]
    elif kind == "delete":
        del content[at : at + length]
    elif kind == "double":
        content[at:at] = content[at : at + length]
    elif kind == "insert":
        content[at:at] = rng.randbytes(min(length, 5000))
    elif kind == "zero":
        content[at : at + length] = bytes(len(content[at : at + length]))
    elif kind == "splice":
        foreign = rng.choice(others).read_bytes()
        content[at : at + length] = foreign[: rng.choice((length, len(foreign)))]
    else:
        content.clear()
    write(path, bytes(content))
    return f"bytes: {kind} at {at}"


def place(path: Path, rng: Random, others: list[Path]) -> str:
    """Puts something else in the file's place."""
    kind = rng.choice(("missing", "folder", "circle", "link", "other"))
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "circle":
        path.symlink_to(path.name)
    elif kind == "link":
        path.symlink_to("nowhere")
    elif kind == "other":
        shutil.copy(rng.choice(others), path)
    return f"place: {kind}"


def json_file(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes one value of a .json, or of one line of a .jsonl or journal."""
    text = path.read_text()
    if path.suffix == ".json":
        tree, done = change_json(json.loads(text), rng)
        write(path, json.dumps(tree).encode())
        return f"JSON: {done}"
    lines = text.splitlines(keepends=True)
    index = rng.randrange(len(lines))
    if rng.random() < 0.3:
        lines.insert(rng.randrange(len(lines) + 1), lines.pop(index) * rng.choice((0, 1, 2)))
        done = "moved"
    else:
        tree, done = change_json(json.loads(lines[index]), rng)
        lines[index] = json.dumps(tree) + "\n"
    write(path, "".join(lines).encode())
    return f"line {index}: {done}"


def safetensors_header(path: Path, rng: Random, others: list[Path]) -> str:
    """Changes one value of the header; tensors' bytes stay."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    tree = json.loads(content[8 : 8 + size])
    own = tree.get("__metadata__", {})
    key = next((name for name in ("hypergen", "hypergen.checkpoint") if name in own), None)
    if key and rng.random() < 0.7:
        inner, done = change_json(json.loads(own[key]), rng)
        own[key], done = json.dumps(inner), f"metadata: {done}"
    else:
        tree, done = change_json(tree, rng)
    text = json.dumps(tree).encode()
    declared = rng.choice([len(text)] * 20 + [2**63, 0, len(text) + 9])
    write(path, struct.pack("<Q", declared) + text + content[8 + size :])
    return f"header: {done}"


def write(path: Path, content: bytes) -> None:
    path.unlink()  # it may be a link to what others use
    path.write_bytes(content)
