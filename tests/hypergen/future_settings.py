"""Settings whose annotations are text at run time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from hypergen.settings import Range, Settings


@dataclass(frozen=True)
class Part(Settings):
    """A part of them."""

    size: Annotated[int, Range(1)] = 3


@dataclass(frozen=True)
class Later(Settings):
    """The settings."""

    steps: Annotated[int, Range(1)] = 1
    norm: Literal["linf", "l2"] = "linf"
    part: Part = field(default_factory=Part)
