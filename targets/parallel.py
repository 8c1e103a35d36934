"""Several small jobs side by side, one a core."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def parallel_map(
    function: Callable[[T], R],
    items: Iterable[T],
    max_workers: int | None = None,
    stop: threading.Event | None = None,
) -> Iterator[R]:
    """`function` of each item, in order; one item a core at a time, or `max_workers` items.

    However it ends, it waits for what is still running; `stop` is set before that, for items so
    long that they had better look at it.

    Small networks do not fill several cores; several of them do. Each thread computes exactly what
    one core alone would, so results do not depend on how many run side by side. Gradients are
    recorded where the caller records them, and inference mode is the caller's.
    """
    cores = torch.get_num_threads()
    if (max_workers or cores) == 1:
        for item in items:
            torch.set_num_threads(1)
            try:
                done = function(item)
            finally:
                torch.set_num_threads(cores)
            yield done
        return
    recording, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()

    def run(item: T) -> R:  # these settings belong to a thread
        torch.set_num_threads(1)
        with torch.inference_mode(inference), torch.set_grad_enabled(recording):
            return function(item)

    size = max_workers or cores
    workers = _workers.pool(size)
    waiting: deque[Future[R]] = deque()
    try:
        waiting.extend(workers.submit(run, item) for item in items)
        while waiting:
            done = waiting[0].result()  # among those waited for until it is there
            waiting.popleft()
            yield done
    except KeyboardInterrupt:
        _workers.end(size)
        raise
    finally:
        if stop is not None:
            stop.set()
        for future in waiting:
            future.cancel()
        wait(waiting)
        torch.set_num_threads(cores)


class _Workers(threading.local):
    """The threads that work for one that calls, kept, and with them their copies of modules."""

    def __init__(self):  # called anew in every thread that looks
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def pool(self, size: int) -> ThreadPoolExecutor:
        """So many threads."""
        if size not in self._pools:
            # A thread that first asks PyTorch for its number of cores gets the one last set in any
            # thread: so it asks now, and not after `parallel_map` has set 1.
            self._pools[size] = ThreadPoolExecutor(size, initializer=torch.get_num_threads)
        return self._pools[size]

    def end(self, size: int) -> None:
        """Ends so many threads, once they have done what they are at.

        One whose start was interrupted is not known to Python as a pool's: it would wait for ever,
        and the process for it.
        """
        self._pools.pop(size).shutdown(wait=False, cancel_futures=True)


_workers = _Workers()


def max_workers(device: torch.device) -> int | None:
    """How many jobs run at a time: one on a GPU, which it may fill; None, one a core, elsewhere."""
    return None if device.type == "cpu" else 1
