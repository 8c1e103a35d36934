"""What a module's forward pass is like, found by trying it on images without numbers.

The layers after a convolution that answers channels-last follow in that format, in which PyTorch's
CPU kernels are fastest. The numbers are the same, but a module may look at how they lie: `view`
fails, `as_strided` gives other numbers, and what is changed in place in a flattened tensor is
changed in the original only where flattening did not copy. And some kernels are wrong in that
format for some geometries: oneDNN's gradient of 1x1 weights at a stride of 2 writes past its end
unless channels come in whole blocks of its vectors.
"""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from targets.copies import without_numbers
from targets.structure import architecture

MAX_KERNEL = 11
"""The largest kernel of a convolution that counts as regular."""
BLOCK = 16
"""Channels that fill any vector register."""

TRIAL_IMAGES = 2
"""On which a module is tried."""

_BLIND = """
    abs adaptive_avg_pool2d adaptive_max_pool2d add add_ addcmul addmm amax amin arange
    avg_pool2d bmm cat celu chunk clamp clamp_ clone concat cos detach device dim div div_ dtype
    element_size elu elu_ empty_like exp exp_ expand expand_as full full_like ge gelu getitem
    glu group_norm gt hardshrink hardsigmoid hardswish hardtanh interpolate layer_norm le
    leaky_relu leaky_relu_ lerp linear linspace log log1p log_softmax logsigmoid logsumexp lt
    masked_fill matmul max_pool2d maximum mean minimum mish mm movedim mul mul_ narrow ndim neg
    normalize numel ones ones_like pad permute pow prelu reciprocal relu relu6 relu_ rsqrt
    scatter select selu shape sigmoid sigmoid_ sign silu sin size softmax softmin softplus
    softshrink softsign split sqrt square squeeze stack sub sub_ sum t tan tanh tanh_ tanhshrink
    tensor tensor_split threshold threshold_ topk transpose truediv unbind unsqueeze var where
    zeros zeros_like
"""
"""Functions whose numbers, and what of their inputs they change, do not depend on strides."""
_MAY_COPY = "contiguous double flatten float ravel reshape reshape_as to type_as"
"""Functions that copy or not, as the tensor lies: a copy does not follow what becomes of it."""
_DROPOUTS = {
    F.dropout,
    F.dropout1d,
    F.dropout2d,
    F.dropout3d,
    F.alpha_dropout,
    F.feature_alpha_dropout,
}


def _functions(names: str) -> set[Any]:
    """The functions, methods, operators and attributes of tensors that have these names."""
    found = set()
    for name in names.split():
        spellings = name, f"__{name}__", f"__r{name}__", f"__i{name}__"
        for space in (torch, torch.Tensor, F):
            found |= {getattr(space, each) for each in spellings if hasattr(space, each)}
    return found | {getattr(each, "__get__", None) for each in found}  # of attributes


_BLIND_FUNCTIONS = _functions(_BLIND) | _functions(_MAY_COPY)
_COPYING_FUNCTIONS = _functions(_MAY_COPY)


@dataclass(frozen=True)
class Traits:
    """What a module does with images.

    Args:
        ignores_memory_format: whether it computes the same however its images lie in memory.
        changes_images: whether it changes them in place.
    """

    ignores_memory_format: bool
    changes_images: bool


WORST = Traits(ignores_memory_format=False, changes_images=True)
_TRAITS: dict[tuple[Any, ...], Traits] = {}


def traits(module: nn.Module, images: Tensor) -> Traits:
    """The traits of `module` for images of the shape and type of [B,C,H,W].

    It is tried on a copy, once for all modules of its architecture, and stays as it is. Where that
    fails, since its course depends on the numbers, say, and in an export the worst is assumed.
    """
    if torch.compiler.is_compiling():
        return WORST
    modes = tuple(part.training for part in module.modules())
    key = architecture(module), modes, images.shape[1:], images.dtype
    if key not in _TRAITS:
        try:
            _TRAITS[key] = _tried(module, images)
        except Exception:  # whatever a stranger's module raises
            _TRAITS[key] = WORST
    return _TRAITS[key]


def _tried(module: nn.Module, images: Tensor) -> Traits:
    with torch.inference_mode(False), torch.no_grad():
        copy = without_numbers(module)
        empty = torch.empty(TRIAL_IMAGES, *images.shape[1:], dtype=images.dtype, device="meta")
        before = empty._version
        with _Trial(module.training) as trial, _Unseen(trial):
            copy(empty)
        return Traits(trial.passed(), empty._version != before)


class _Trial(TorchFunctionMode):
    """Notes whether functions are called inside this context that are not known to be blind."""

    def __init__(self, training: bool):
        super().__init__()
        self.training, self.blind, self.calling = training, True, False
        self.versions: list[tuple[Tensor, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d:
            self.blind &= is_regular(*args, **kwargs)
        elif func is F.batch_norm:
            # Over reshaped images, as instance norm is computed, its gradient can be wrong.
            self.blind &= len(args[0]) == TRIAL_IMAGES
        elif func in _DROPOUTS:
            # Which values are dropped is chance in a training, and else a part of the answer.
            self.blind &= self.training or not _drops(func, *args, **kwargs)
        else:
            self.blind &= func in _BLIND_FUNCTIONS and "out" not in kwargs
        self.calling = True
        result = func(*args, **kwargs)
        self.calling = False
        if func in _COPYING_FUNCTIONS:
            tensors = [t for t in (*args, *kwargs.values(), result) if isinstance(t, Tensor)]
            self.versions += [(tensor, tensor._version) for tensor in tensors]
        return result

    def passed(self) -> bool:
        """Whether all functions are blind, and nothing that may have been copied was changed."""
        return self.blind and all(tensor._version == old for tensor, old in self.versions)


class _Unseen(TorchDispatchMode):
    """Lets a trial fail whose module computes what no function was called for: scripted code."""

    def __init__(self, trial: _Trial):
        super().__init__()
        self.trial = trial

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.trial.blind &= self.trial.calling
        return func(*args, **(kwargs or {}))


def is_regular(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Whether `conv2d` with these arguments is one whose kernels can be trusted in any format.

    Kernels are square and at most 11 wide, strides are equal, without dilation and groups; strides
    of 1x1 kernels are 1, or channels come in whole blocks.
    """
    channels, height, width = weight.shape[-3:]
    step, other = pair(stride)
    square = height == width <= MAX_KERNEL and step == other
    subsampled = width == 1 and step > 1 and channels % BLOCK > 0
    return square and not subsampled and pair(dilation) == (1, 1) and groups == 1


def pair(value: Any) -> tuple[int, int]:
    """What PyTorch makes of a number, or of a sequence of one or two."""
    values = tuple(value) if isinstance(value, Iterable) else (value,)
    return values[0], values[-1]


def _drops(func: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether this call of a dropout function draws what it drops."""
    call = inspect.signature(func).bind(*args, **kwargs)
    call.apply_defaults()
    return call.arguments["training"]
