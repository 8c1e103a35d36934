"""Keeps on disk which images survived which attack: a killed evaluation continues where it was."""

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
from hypergen.storage.atomic import naming, write_text
from targets import Ensemble, Population

_FIRST_LINE = '{"hypergen": "results"}\n'


class ResultsCache:
    """A file of masks, which images survived which attack, for each network and batch of images.

    A line of JSON for each network and batch, added when it is done; its bits are packed, so that
    10,000 images under four attacks take 8 kB a network. From the first damaged or changed line on
    (a kill cuts the last one short) lines are dropped, and their work is done again.

    Args:
        path: the file; continued when it is there.

    Raises:
        InputError: a file that is something else, or cannot be read.
    """

    def __init__(self, path: Path):
        self.path, self._lock = path, Lock()
        self._masks: dict[str, dict[str, str]] = {}
        try:
            raw = path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        first, *lines = raw.splitlines(keepends=True) or [b""]
        if not _FIRST_LINE.encode().startswith(first):
            raise InputError(f"{path} holds no results of an evaluation; remove it, or rename it")
        kept = [_FIRST_LINE]
        for line in lines:
            entry = _parsed(line)
            if entry is None:
                break
            self._masks[entry["key"]] = entry["masks"]
            kept.append(line.decode())
        self._begun = bool(raw)
        if raw and "".join(kept).encode() != raw:
            write_text(path, "".join(kept))

    def view(self, images: Tensor, labels: Tensor, **what: Any) -> "ResultsView":
        """Returns the part of the file that stands for one attack on images [N,C,H,W].

        Images and labels [N] are told by their content. `what` tells everything else that decides
        the masks, such as the attack and its seed, as JSON can hold it. Attacks of another
        `attacks.VERSION` have another part.
        """
        what["version"] = attacks.VERSION
        return ResultsView(self, images, labels, json.dumps(what, sort_keys=True))

    def get(self, key: str) -> dict[str, str] | None:
        """Returns name -> packed mask; None for what is yet to be done."""
        return self._masks.get(key)

    def put(self, key: str, masks: dict[str, str]) -> None:
        """Adds name -> packed mask."""
        line = json.dumps({"key": key, "masks": masks, "digest": _of_entry(key, masks)}) + "\n"
        # Several threads put in what they have done.
        with self._lock, naming(self.path), self.path.open("a") as file:
            file.write(line if self._begun else _FIRST_LINE + line)
            self._begun, self._masks[key] = True, masks


class ResultsView:
    """What is known of networks under one attack on some images; made by `ResultsCache.view`."""

    def __init__(self, cache: ResultsCache, images: Tensor, labels: Tensor, what: str):
        self._cache, self._images, self._labels, self._what = cache, images, labels, what

    def get(self, networks: Population | Ensemble, images: slice) -> dict[str, Tensor] | None:
        """Returns the masks, name -> bool [P,n], of P networks on some of the images.

        None unless all of them are there.
        """
        count = images.stop - images.start
        rows = []
        for key in self._keys(networks, images):
            packed = self._cache.get(key)
            if packed is None or (rows and list(packed) != list(rows[0])):
                return None
            masks = {name: _unpacked(text, count) for name, text in packed.items()}
            if any(mask is None for mask in masks.values()):
                return None
            rows.append(masks)
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def put(
        self, networks: Population | Ensemble, images: slice, masks: Mapping[str, Tensor]
    ) -> None:
        """Keeps the masks, name -> bool [P,n], of P networks on some of the images."""
        for index, key in enumerate(self._keys(networks, images)):
            self._cache.put(key, {name: _packed(mask[index]) for name, mask in masks.items()})

    def _keys(self, networks: Population | Ensemble, images: slice) -> list[str]:
        """One a network, or one for an ensemble: by architecture, weights, buffers and images."""
        what = [self._what, f"{images.start}-{images.stop}"]
        on = _digest(*what, self._images[images], self._labels[images])
        members = networks.members if isinstance(networks, Ensemble) else networks
        digests = [
            _digest(members.architecture, *tensors)
            for tensors in zip(members.theta, *members.buffers.values(), strict=True)
        ]
        if isinstance(networks, Ensemble):
            digests = [_digest("ensemble", *digests)]
        return [f"{on}-{digest}" for digest in digests]


def _digest(*parts: str | Tensor) -> str:
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Tensor):
            digest.update(f"{part.dtype} {list(part.shape)}".encode())
            raw = part.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(raw.numpy().data)
        else:
            digest.update(f"{len(part)} {part}".encode())
    return digest.hexdigest()[:32]


def _of_entry(key: str, masks: Mapping[str, str]) -> str:
    """What an entry is checked by: a changed one would be believed as if it had been measured."""
    return _digest(key, json.dumps(masks))[:16]


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None for a line that is damaged, changed or cut short."""
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        return None
    masks = entry.get("masks")
    if not isinstance(masks, dict) or not masks:
        return None
    valid = all(isinstance(mask, str) for mask in masks.values())
    return entry if valid and entry.get("digest") == _of_entry(entry["key"], masks) else None


def _packed(mask: Tensor) -> str:
    """Of bool [n], base64 of its bits."""
    return base64.b64encode(np.packbits(mask.cpu().numpy()).tobytes()).decode()


def _unpacked(text: str, count: int) -> Tensor | None:
    """bool [count]; None for bits of another number."""
    try:
        raw = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    except ValueError:
        return None
    if len(raw) != -(-count // 8):
        return None
    return torch.from_numpy(np.unpackbits(raw, count=count).astype(bool))
