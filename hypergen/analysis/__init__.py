"""The geometry of networks: one analysis a file."""

from hypergen.analysis import moments as moments
from hypergen.analysis import sensitivity as sensitivity
from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row

__all__ = ["Analysis", "Context", "Finding", "Group", "NotApplicable", "Row"]
