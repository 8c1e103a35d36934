"""The geometry of networks: one analysis a file."""

from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row
from hypergen.analysis.linearisation import Linearisation
from hypergen.analysis.regions import Regions

__all__ = [
    "Analysis",
    "Context",
    "Finding",
    "Group",
    "Linearisation",
    "NotApplicable",
    "Regions",
    "Row",
]
