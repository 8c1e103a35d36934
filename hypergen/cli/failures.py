"""Networks that could not be judged, as a command tells them."""

import sys
from collections.abc import Mapping
from typing import Any


def told_failures(result: Mapping[str, Any]) -> int:
    """Names each network that failed, and why, on standard error; the command's exit status."""
    for file, reason in result["failed"].items():
        print(f"hypergen: {file} cannot be judged: {reason}", file=sys.stderr)
    return 1 if result["failed"] else 0
