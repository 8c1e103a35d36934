"""Several processes that work as one, started by torchrun: each is a *rank*, and the first leads.

    torchrun --nproc-per-node 4 -m hypergen train ...

Every rank is started with the same command. The first alone reads and writes files, and speaks; the
others help: they share a training step (see `exchange`), or do jobs of the first (see `crew`).
Without torchrun there is one rank, and PyTorch's distributed package is not even imported.
"""

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypergen.errors import InputError

PATIENCE = timedelta(days=1)
"""How long a rank waits for another, which may be busy. One that has died is noticed at once."""
LEAVING_SECONDS = 3.0
"""How long the first rank waits for the others to leave, of which some may have died; and others
for it to tell a mistake."""


@dataclass(frozen=True)
class Place:
    """Which of how many ranks a process is; `local` counts those of its machine alone."""

    rank: int = 0
    count: int = 1
    local: int = 0


@dataclass
class _Joined:
    """What this process has of the others: its place, what all share, whether it may speak."""

    place: Place = Place()
    store: Any = None
    speaks: bool | None = None


_joined = _Joined()


def place() -> Place:
    """Which rank this process is; outside of `joined` the first of one."""
    return _joined.place


def store() -> Any:
    """The `torch.distributed.Store` that the ranks share; None until they have `joined`."""
    return _joined.store


def launched() -> Place:
    """Which rank torchrun's environment makes this process; without it the first of one.

    `InputError`: the environment says something impossible.
    """
    count = _number("WORLD_SIZE", 1)
    if count < 2:
        return Place()
    rank = _number("RANK", count)
    if rank >= count:
        raise InputError(f"RANK must be below WORLD_SIZE, which is {count}; torchrun sets both")
    return Place(rank, count, _number("LOCAL_RANK", 0))


def restarts() -> bool:
    """Whether torchrun starts the ranks anew when one has died (its option --max-restarts)."""
    return _number("TORCHELASTIC_MAX_RESTARTS", 0) > 0


def restarted() -> bool:
    """Whether it has done so by now."""
    return restarts() and _number("TORCHELASTIC_RESTART_COUNT", 0) > 0


def _number(name: str, usual: int) -> int:
    text = os.environ.get(name, str(usual))
    if not text.isdecimal():
        raise InputError(f"{name} must be a whole number, as torchrun sets it, got {text:.40}")
    return int(text)


@contextlib.contextmanager
def joined() -> Iterator[Place]:
    """Inside, this process works with the others that torchrun has started; with none, alone.

    `InputError`: they cannot reach each other, or have not what they need for it.
    """
    found = launched()
    if found.count == 1:
        yield found
        return
    # Here, for a single process needs none of it.
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    _require_backend(found)
    try:
        store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        # The same store is there after a restart, with all that those who died have said in it.
        shared = PrefixStore(f"restart-{_number('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        distributed.init_process_group(
            store=PrefixStore("group", shared),
            rank=found.rank,
            world_size=found.count,
            timeout=PATIENCE,
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"torchrun's processes cannot reach each other: {reason}") from None
    _joined.place, _joined.store = found, shared
    try:
        yield found
    except KeyboardInterrupt:  # which reaches all, and the first knows how to go on
        _joined.speaks = found.rank == 0
        raise
    except BaseException:
        speaks()  # asked before the others notice that this process leaves
        raise
    finally:
        _joined.place = Place()
        with contextlib.suppress(RuntimeError):  # the store may have gone with another
            _leave(found)
        distributed.destroy_process_group()


def _leave(found: Place) -> None:
    """The first rank may hold the store: it lets the others leave before it."""
    left, end = _joined.store.add("left", 1), time.monotonic() + LEAVING_SECONDS
    while found.rank == 0 and left < found.count and time.monotonic() < end:
        time.sleep(0.01)
        left = _joined.store.add("left", 0)


def _require_backend(found: Place) -> None:
    """`InputError` where PyTorch lacks what ranks talk by, or this machine has too few GPUs."""
    import torch

    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise InputError("this PyTorch was built without gloo, by which torchrun's processes talk")
    if not torch.cuda.is_available():
        return
    if not torch.distributed.is_nccl_available():
        raise InputError("this PyTorch was built without NCCL, by which GPUs talk")
    if found.local >= torch.cuda.device_count():
        raise InputError(
            f"this machine has {torch.cuda.device_count()} GPUs, and torchrun has started "
            f"{found.local + 1} or more processes: start one a GPU"
        )
    torch.cuda.set_device(found.local)


def speaks() -> bool:
    """Whether this process tells what went wrong: the first that knows does, and no other.

    As long as they have not `joined`, all know the same, and the first rank tells it.
    """
    if _joined.store is None:
        try:
            return launched().rank == 0
        except InputError:  # about this very process
            return True
    if _joined.speaks is None:
        try:
            _joined.speaks = _joined.store.add("told", 1) == 1
        except RuntimeError:  # nobody can be asked any more
            _joined.speaks = launched().rank == 0
    return bool(_joined.speaks)


def outlives_first() -> bool:
    """Whether this process still runs when the first has had time to tell what both know.

    torchrun ends all as soon as one has ended: were that not the first, nothing would be told. Who
    is not ended by then is alone with its mistake. Nothing is waited for once ranks have `joined`.
    """
    if _joined.store is not None:
        return False
    time.sleep(LEAVING_SECONDS)
    return True


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Inside, ranks other than the first show no results and no warnings."""
    if speaks():
        yield
        return
    with (
        open(os.devnull, "w") as nothing,
        contextlib.redirect_stdout(nothing),
        warnings.catch_warnings(action="ignore"),
    ):
        yield
