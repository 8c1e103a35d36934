"""The geometry of networks: one analysis a file."""

from hypergen.analysis import activations as _activations  # noqa: F401  (registers itself)
from hypergen.analysis import connectivity as _connectivity  # noqa: F401
from hypergen.analysis import curvature as _curvature  # noqa: F401
from hypergen.analysis import fooling as _fooling  # noqa: F401
from hypergen.analysis import latent_map as _latent_map  # noqa: F401
from hypergen.analysis import linearisation as _linearisation  # noqa: F401
from hypergen.analysis import lipschitz as _lipschitz  # noqa: F401
from hypergen.analysis import moments as _moments  # noqa: F401
from hypergen.analysis import regions as _regions  # noqa: F401
from hypergen.analysis import sensitivity as _sensitivity  # noqa: F401
from hypergen.analysis import universal as _universal  # noqa: F401
from hypergen.analysis.base import Analysis, Context, Finding, Group, NotApplicable, Row

__all__ = ["Analysis", "Context", "Finding", "Group", "NotApplicable", "Row"]
