"""The networks whose weights are generated.

To add a target: one file with an `nn.Module` whose constructor takes any of (activation,
num_classes, input_shape) by name, and one line in `TARGETS`; tests/targets/conformance.py then
tests it. Layers are declared once, in `torch.nn`; the flat layout, the population, the generator's
scales and the weight files all follow from that declaration. Images come in [0,1]: a target that
wants them normalised does so in a first layer (targets/normalization.py).
"""

from targets.activations import ACTIVATIONS, activation_factory, make_activation, unsized
from targets.ensemble import Ensemble
from targets.errors import TargetError, image_shape, require_initialized
from targets.fast_cpu import fast_context
from targets.kaf import outside_dictionary
from targets.kwta import set_share
from targets.layout import Slot, WeightLayout
from targets.memory import in_parts
from targets.outputs import select_output
from targets.parallel import max_workers, parallel_map
from targets.population import Population
from targets.registry import NORMALIZED, TARGETS, Target, build
from targets.structure import architecture

__all__ = [
    "ACTIVATIONS",
    "NORMALIZED",
    "TARGETS",
    "Ensemble",
    "Population",
    "Slot",
    "Target",
    "TargetError",
    "WeightLayout",
    "activation_factory",
    "architecture",
    "build",
    "fast_context",
    "image_shape",
    "in_parts",
    "make_activation",
    "max_workers",
    "outside_dictionary",
    "parallel_map",
    "require_initialized",
    "select_output",
    "set_share",
    "unsized",
]
