"""What tells the files of two runs apart: everything but times, and what depends on these."""

import json
import re
from pathlib import Path
from typing import Any

import safetensors
from torch import Tensor

from hypergen.runtime.sessions import TIMES
from hypergen.storage import checkpoint

LOGS = re.compile(r"log\.txt|optuna\.journal|events\.out.*|.*\.previous")
"""Files that tell what happened when: figures of a sweep stand in results.json as well."""
TYPED = re.compile(r"<h3>As it was typed</h3>.*?</table>", re.DOTALL)
"""What pages tell of sessions."""
RESULTS = re.compile(r'(?<=id="results">).*?(?=</script>)')
LEFT = re.compile(r".*\.(part|lock)|\.lock")
"""Files that no command may leave."""


def contents(folder: Path) -> dict[str, Any]:
    """Path -> what is compared of each file of a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not LOGS.fullmatch(path.name):
            found[str(path.relative_to(folder))] = content(path)
    return found


def content(path: Path) -> Any:
    """What is compared of a file."""
    raw = path.read_bytes()
    if path.suffix == ".json":
        return timeless(json.loads(raw))
    if path.name.endswith(".masks.jsonl"):  # in the order in which they were found
        return sorted(set(raw.splitlines()))
    if path.name.endswith("checkpoint.safetensors"):  # whose digest is also of its times
        return timeless(checkpoint.load(path))
    if path.suffix == ".safetensors":
        return of_tensors(path)
    if path.suffix == ".html":
        return of_page(raw.decode())
    return raw


def of_page(text: str) -> Any:
    """What a page tells, but for sessions."""
    results = RESULTS.search(text)
    told = timeless(json.loads(results[0])) if results else None
    return told, RESULTS.sub("", TYPED.sub("", text))


def of_tensors(path: Path) -> dict[str, Any]:
    """The bytes of each tensor, and the header; a checkpoint has its own digest of everything."""
    with safetensors.safe_open(path, "np") as file:
        header = {name: _parsed(text) for name, text in (file.metadata() or {}).items()}
        tensors = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
    return {"header": timeless(header), **tensors}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def timeless(tree: Any) -> Any:
    """The same without what is named as a time."""
    if isinstance(tree, dict):
        return {name: timeless(each) for name, each in tree.items() if name not in TIMES}
    if isinstance(tree, Tensor):
        return str(tree.dtype), tuple(tree.shape), tree.contiguous().numpy().tobytes()
    return [timeless(each) for each in tree] if isinstance(tree, list | tuple) else tree


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """The files that differ, are missing, or should not be there."""
    names = sorted(expected.keys() | found.keys())
    return [
        f"{name}: {'missing' if name not in found else 'new' if name not in expected else 'other'}"
        for name in names
        if expected.get(name) != found.get(name)
    ]


def left(folder: Path) -> list[str]:
    """What no command may leave: locks, and files that were being written."""
    return [
        str(path.relative_to(folder)) for path in folder.rglob("*") if LEFT.fullmatch(path.name)
    ]
