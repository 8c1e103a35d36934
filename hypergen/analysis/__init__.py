"""The geometry of networks: one analysis a file."""

from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row
from hypergen.analysis.curvature import Curvature
from hypergen.analysis.universal import UniversalPerturbations

__all__ = [
    "Analysis",
    "Context",
    "Curvature",
    "Finding",
    "Group",
    "NotApplicable",
    "Row",
    "UniversalPerturbations",
]
