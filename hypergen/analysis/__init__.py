"""The geometry of networks: one analysis a file."""

from hypergen.analysis import curvature as _curvature  # noqa: F401  (registers itself)
from hypergen.analysis import universal as _universal  # noqa: F401
from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row

__all__ = ["Analysis", "Context", "Finding", "Group", "NotApplicable", "Row"]
