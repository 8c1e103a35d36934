"""The geometry of networks: one analysis a file."""

from hypergen.analysis import lipschitz as lipschitz
from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row

__all__ = ["Analysis", "Context", "Finding", "Group", "NotApplicable", "Row"]
