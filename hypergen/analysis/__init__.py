"""The geometry of networks: one analysis a file."""

from hypergen.analysis.activations import Activations
from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row

__all__ = ["Activations", "Analysis", "Context", "Finding", "Group", "NotApplicable", "Row"]
