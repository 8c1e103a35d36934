"""What computes for all pages: threads beside the one that answers browsers, and what is shared."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ParamSpec, TypeVar

from hypergen.experiments.explorer import Chosen, Explorer

P = ParamSpec("P")
R = TypeVar("R")


class Stopped(Exception):
    """Somebody does not want to wait for a measurement any longer."""


class Measuring:
    """A measurement that somebody waits for.

    Attributes:
        images: how many images are to be attacked; done: how many are.
        is_stopped: set it to have it end.
    """

    def __init__(self, images: int):
        self.images, self.done, self.is_stopped = images, 0, False

    def advance(self, done: int) -> None:
        """Takes note of the progress. `Stopped`: it is to end."""
        self.done = done
        if self.is_stopped:
            raise Stopped


class Desk:
    """The newest explorer that some page has opened, and the threads that compute with it.

    One thread answers what somebody sees change under their hand; a second one does what may come a
    little later, piece by piece. A measurement takes minutes and has a thread of its own, one after
    the other; it dies with the process.
    """

    def __init__(self, explorer: Explorer):
        self.explorer = explorer
        self._quick, self._later = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._turn = asyncio.Lock()
        self._reloading = asyncio.Lock()

    async def quick(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns, as soon as can be."""
        return await _within(self._quick, partial(function, *args, **kwargs))

    async def later(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """What the function returns, after what else is waiting."""
        return await _within(self._later, partial(function, *args, **kwargs))

    async def reload(self) -> Explorer:
        """The explorer of the newest checkpoint; `InputError` where it cannot be opened."""
        async with self._reloading:  # several pages may ask
            if self.explorer.is_outdated:
                known = self.explorer
                self.explorer = await self.later(Explorer, known.folder, known.dataset)
            return self.explorer

    async def measure(self, explorer: Explorer, chosen: Chosen, work: Measuring) -> dict[str, Any]:
        """What `Explorer.measure` returns, or raises; `Stopped`."""
        async with self._turn:
            work.advance(0)
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[dict[str, Any]] = loop.create_future()

            def compute() -> None:
                try:
                    found = explorer.measure(chosen, work.images, work.advance)
                    finish = partial(answer.set_result, found)
                except BaseException as error:  # whoever waits is told
                    finish = partial(answer.set_exception, error)
                loop.call_soon_threadsafe(lambda: answer.cancelled() or finish())

            threading.Thread(target=compute, daemon=True).start()
            return await answer

    def close(self) -> None:
        """Ends the threads; what is waiting is not done any more."""
        for threads in (self._quick, self._later):
            threads.shutdown(wait=False, cancel_futures=True)


async def _within(threads: ThreadPoolExecutor, function: Callable[[], R]) -> R:
    return await asyncio.get_running_loop().run_in_executor(threads, function)
