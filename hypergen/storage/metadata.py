"""What a weight file says of its network: JSON that anybody may have written, so it is checked.

A file also tells how its network was once judged. That is the file's word, not ours: `origin`
leaves it out.
"""

import json
import math
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hypergen.errors import InputError

_MAX_TEXT = 500


def _text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= _MAX_TEXT


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < math.inf


def _numbers(value: Any) -> bool:
    return _number(value) or (isinstance(value, list) and all(map(_number, value)))


def _size(value: Any) -> bool:
    return _number(value) and value >= 0


def _weights(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_text, value)) and all(map(_size, value.values()))


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and all(map(_count, value))


_Kind = tuple[Callable[[Any], bool], str]
_NAME: _Kind = _text, "a short text"
_SIZE: _Kind = _size, "a number, at least 0"
_NUMBERS: _Kind = _numbers, "a number or a list of numbers"

REQUIRED: dict[str, _Kind] = {
    "target": _NAME,
    "activation": _NAME,
    "num_classes": (_count, "an integer above 0"),
    "input_shape": (_shape, "[channels, height, width]"),
    "layout": _NAME,
}
"""Without these no network can be opened."""
FIELDS: dict[str, _Kind] = REQUIRED | {
    "class_names": (_texts, "a list of short texts"),
    "dataset": _NAME,
    "plugins": (lambda value: isinstance(value, list), "a list"),
    "method": _NAME,
    "version": _NAME,
    "z": _NUMBERS,
    "beta": _NUMBERS,
    "radius": _SIZE,
    "preference": (_weights, "an object of numbers, at least 0"),
    "epsilon": _SIZE,
    "norm": _NAME,
    "norms_trained": _NAME,
    "epochs": _SIZE,
    "seconds_trained": _SIZE,
    "trained_on": _NAME,
    "gradient_evaluations": _SIZE,
    "epsilon_trained": _SIZE,
    "learning_rate": _SIZE,
    "share_start": _SIZE,
    "ema_decay": _SIZE,
    "label_smoothing": _SIZE,
    "awp": _SIZE,
    "trades_weight": _SIZE,
    "lipschitz_bound": _SIZE,
    "pretrained": (lambda value: isinstance(value, bool), "true or false"),
    "seed": (lambda value: type(value) is int, "an integer"),
}
"""What says how a network was made, with its type. Each may also be null, or not there."""


def parsed(text: str | None, path: Path) -> dict[str, Any]:
    """Returns the metadata that stands in the weight file `path` as JSON.

    InputError: none, or a field of `FIELDS` of another type. Other fields may be anything.
    """
    try:
        metadata = json.loads(text or "")
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise InputError(f"{path} was not written by hypergen: it has no metadata of its kind")
    for name, (fits, kind) in FIELDS.items():
        value = metadata.get(name)
        if value is not None and not fits(value):
            raise InputError(f"{path}: its `{name}` is {reprlib.repr(value)}, expected {kind}")
    return metadata


def require_complete(metadata: Mapping[str, Any], path: Path) -> None:
    """Refuses, by an `InputError`, metadata from which no network can be opened."""
    for name in REQUIRED:
        if metadata.get(name) is None:
            raise InputError(f"{path}: its metadata lacks `{name}`")


def origin(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the metadata says of how the network was made, and nothing of how good it is."""
    return {name: metadata[name] for name in FIELDS if name in metadata}
