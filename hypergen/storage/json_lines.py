"""Reads files to which a line of JSON at a time is added: a kill cuts the last one short."""

import io
import json
from collections.abc import Iterator
from typing import Any


def json_lines(raw: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Yields each line, with its end, and the object it holds, up to the first that is damaged.

    Damaged is a line without an end, and one that holds no JSON object. What is yielded is the
    beginning of the file, so that its length tells where the damage is.
    """
    for line in io.BytesIO(raw):
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            return
        if not isinstance(record, dict):
            return
        yield line, record
