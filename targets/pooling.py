"""What a max-pooling was asked for, dimension by dimension."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from targets.graph import Call


class MaxPooling(NamedTuple):
    """The options of `max_pool1d`, `max_pool2d` or `max_pool3d`, a number for each dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    return_indices: bool

    @classmethod
    def of(cls, call: Call) -> Self:
        """Those of a call whose first argument is what is pooled."""

        def read(
            kernel_size: Any,
            stride: Any = None,
            padding: Any = 0,
            dilation: Any = 1,
            ceil_mode: bool = False,
            return_indices: bool = False,
        ) -> Self:
            return cls(
                _each(kernel_size, dims),
                _each(stride or kernel_size, dims),
                _each(padding, dims),
                _each(dilation, dims),
                ceil_mode,
                return_indices,
            )

        dims = int(call.name[-2])
        return read(*call.args[1:], **call.kwargs)

    @property
    def is_plain(self) -> bool:
        """Whether every window is whole, without gaps and inside what is pooled."""
        return not any(self.padding) and set(self.dilation) == {1} and not self.ceil_mode


def _each(option: Any, dims: int) -> tuple[int, ...]:
    """An option for each dimension, of one number for all or of several."""
    values = tuple(option) if isinstance(option, Sequence) else (option,)
    return values * dims if len(values) == 1 else values
