"""Shares the networks of a training step out to the ranks, and puts together what they find.

Networks do not influence each other, so each rank computes for its own what one process would. All
that is found is put together in the order of the networks, on every rank; whatever comes of it is
then computed everywhere, from the same numbers in the same order. So a run has the same bits on any
number of ranks of one kind of processor.
"""

import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from hypergen.errors import InputError, RunError
from hypergen.runtime.ranks import place


def require_networks(count: int) -> None:
    """`InputError` for fewer networks a step than ranks: some would have nothing to do."""
    if count < place().count:
        raise InputError(
            f"torchrun has started {place().count} processes for a `population` of {count}: start "
            "at most as many as there are networks a step"
        )


def share(total: int) -> slice:
    """Which of `total` networks are this rank's; all, where there is no other."""
    return _share(total, place().rank)


def own(values: Tensor, *totals: int) -> Tensor:
    """This rank's part [n,...] of what `gathered` gives, [sum of totals,...]."""
    if place().count == 1:
        return values
    return torch.cat([group[share(len(group))] for group in values.split(totals)])


def gathered(values: Tensor, *totals: int) -> Tensor:
    """What all ranks have of their networks, [sum of totals,...], in the networks' order.

    Args:
        values: [n,...], of this rank's shares of several groups, one behind the other.
        totals: how many networks each group has on all ranks together.

    Raises:
        RunError: another rank has ended.
    """
    count = place().count
    if count == 1:
        return values
    lengths = [_lengths(totals, rank) for rank in range(count)]
    padded = values.new_zeros(max(map(sum, lengths)), *values.shape[1:])
    padded[: len(values)] = values
    found = [torch.empty_like(padded) for _ in range(count)]
    with _heard():
        torch.distributed.all_gather(found, padded)
    parts = [all_[: sum(own)].split(own) for all_, own in zip(found, lengths, strict=True)]
    return torch.cat([part[group] for group in range(len(totals)) for part in parts])


def anyone(asks: bool) -> bool:
    """Whether any rank asks, the same on all. `RunError`: another rank has ended."""
    if place().count == 1:
        return asks
    asked = torch.tensor(int(asks))
    with _heard():
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX)
    return bool(asked)


def handed_out(state: Any) -> Any:
    """The first rank's nested dicts and lists of tensors and numbers, on every rank's CPU.

    state: of the first rank; what others give is not looked at. `RunError`: a rank has ended.
    """
    if place().count == 1:
        return state
    file = io.BytesIO()
    if place().rank == 0:
        torch.save(state, file)
    box = [file.getvalue()]
    with _heard():
        torch.distributed.broadcast_object_list(box, device=torch.device("cpu"))
    return torch.load(io.BytesIO(box[0]), map_location="cpu", weights_only=True)


def _share(total: int, rank: int) -> slice:
    count = place().count
    return slice(total * rank // count, total * (rank + 1) // count)


def _lengths(totals: Sequence[int], rank: int) -> list[int]:
    """How many networks of each group are a rank's."""
    slices = [_share(total, rank) for total in totals]
    return [each.stop - each.start for each in slices]


@contextlib.contextmanager
def _heard() -> Iterator[None]:
    """Says in one line what PyTorch says of a rank that does not answer."""
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            "another process of this torchrun has ended; the run can be resumed"
        ) from error
