"""What was found on each image so far, on disk: a killed evaluation continues where it was."""

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

import attacks
from hypergen.errors import InputError
from hypergen.tracking import write_text
from targets import Ensemble, Population


class Bits:
    """A file of bits: which images survived which attack, for every network and piece of work.

    A line of JSON for each network and piece, added when it is done; its bits are packed, so that
    10,000 images under four attacks take 8 kB a network. A line that a kill cut short is dropped.

    Args:
        path: the file; continued when it is there.

    Raises:
        InputError: a file that is something else.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, Lock()
        self._found: dict[str, dict[str, list[Any]]] = {}
        try:
            text = path.read_text() if path.exists() else ""
            whole = text[: text.rfind("\n") + 1]
            for line in whole.splitlines():
                entry = json.loads(line)
                self._found[entry["key"]] = entry["left"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no record of an evaluation") from None
        if whole != text:
            write_text(path, whole)

    def about(self, **what: Any) -> "Record":
        """The part of the file that stands for one attack on one data set, as JSON can hold it.

        Attacks of another `attacks.VERSION` have another part.
        """
        what["version"] = attacks.VERSION
        return Record(self, _digest(json.dumps(what, sort_keys=True).encode()))

    def find(self, key: str) -> dict[str, Tensor] | None:
        """name -> bool [N]; None for what is yet to be done."""
        found = self._found.get(key)
        return None if found is None else {name: _unpacked(*bits) for name, bits in found.items()}

    def add(self, key: str, table: Mapping[str, Tensor]) -> None:
        """Adds name -> bool [N]."""
        entry = {name: _packed(bits) for name, bits in table.items()}
        with self._lock, self.path.open("a") as file:  # pieces are done by several threads
            self._found[key] = entry
            file.write(json.dumps({"key": key, "left": entry}) + "\n")


class Record:
    """What is known of networks under one attack; made by `Bits.about`."""

    def __init__(self, bits: Bits, about: str):
        self.bits, self._about = bits, about

    def find(self, networks: Population | Ensemble, images: slice) -> dict[str, Tensor] | None:
        """The table of these networks and images, name -> bool [P,N]; None unless all is there."""
        rows = [self.bits.find(key) for key in self._keys(networks, images)]
        if any(row is None for row in rows):
            return None
        return {name: torch.stack([row[name] for row in rows if row]) for name in rows[0] or {}}

    def add(
        self, networks: Population | Ensemble, images: slice, table: Mapping[str, Tensor]
    ) -> None:
        """Notes the table of these networks and images, name -> bool [P,N]."""
        for index, key in enumerate(self._keys(networks, images)):
            self.bits.add(key, {name: left[index] for name, left in table.items()})

    def _keys(self, networks: Population | Ensemble, images: slice) -> list[str]:
        """One a row of the table, told by architecture, weights and buffers."""
        members = networks.members if isinstance(networks, Ensemble) else networks
        kind = members.architecture.encode()
        digests = [
            _digest(kind + b"".join(t.detach().cpu().contiguous().numpy().tobytes() for t in own))
            for own in zip(members.theta, *members.buffers.values(), strict=True)
        ]
        if isinstance(networks, Ensemble):
            digests = [_digest(",".join(digests).encode())]
        return [f"{self._about}-{digest}-{images.start}-{images.stop}" for digest in digests]


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:16]


def _packed(bits: Tensor) -> list[Any]:
    """bool [N] -> [N, base64 of its bits]."""
    return [len(bits), base64.b64encode(np.packbits(bits.cpu().numpy()).tobytes()).decode()]


def _unpacked(count: int, text: str) -> Tensor:
    raw = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return torch.from_numpy(np.unpackbits(raw, count=count).astype(bool))
