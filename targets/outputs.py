"""Modules that answer with more than logits."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

Output = int | str | Callable[[Any], Tensor]
"""Which part of a module's answer the logits are: an index, a key, or a function of the answer."""
Module = TypeVar("Module", bound=nn.Module)


class _Select:
    """A forward hook that replaces a module's answer by one part of it. It can be pickled."""

    def __init__(self, output: Output):
        self.output = output

    def __call__(self, module: nn.Module, args: tuple[Any, ...], answer: Any) -> Tensor:
        if callable(self.output):
            return self.output(answer)
        if isinstance(self.output, str) and hasattr(answer, self.output):
            return getattr(answer, self.output)
        return answer[self.output]


def select_output(module: Module, output: Output) -> Module:
    """The same module, which from now on answers with the logits alone.

    It gets a forward hook, so that its class and the names of its weights stay what they are.

    Args:
        module: any module whose answer is a tuple, a dict, or an object with attributes.
        output: the index, the key (or name of the attribute), or a function from the answer to the
            logits; a function of a module if the network is to be pickled.
    """
    module.register_forward_hook(_Select(output))
    return module
