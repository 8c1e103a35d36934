"""The geometry of networks: one analysis a file."""

from hypergen.analysis import activations as _activations  # noqa: F401  (registers itself)
from hypergen.analysis import connectivity as _connectivity  # noqa: F401
from hypergen.analysis import fooling as _fooling  # noqa: F401
from hypergen.analysis import latent_map as _latent_map  # noqa: F401
from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row

__all__ = ["Analysis", "Context", "Finding", "Group", "NotApplicable", "Row"]
