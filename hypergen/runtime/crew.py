"""Jobs of the first rank that all ranks do, each taking the next one as soon as it is free.

A helper waits in `serve` for what the first rank wants `mapped`, or `called` it to. Functions are
found there by their names, and what they are given must be such that Python can pickle it: it
travels between processes that torchrun started for one command, and is never kept.
"""

import contextlib
import itertools
import pickle
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import torch

from hypergen.errors import RunError
from hypergen.runtime.ranks import place, store
from targets import parallel_map

Job = TypeVar("Job")
Result = TypeVar("Result")
Found = TypeVar("Found")
POLL_SECONDS = 0.005
"""Between two looks for what another rank has done."""
_ENOUGH = 10**9
"""More jobs than any task has."""
_tasks = itertools.count()
_busy = False
"""Whether helpers are at work on something that the first rank takes part in."""


def helpers() -> int:
    """How many ranks wait for what this one gives them to do."""
    first = place().rank == 0 and threading.current_thread() is threading.main_thread()
    return place().count - 1 if first and not _busy else 0


def mapped(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int | None,
    remote: Callable[[Any, int], Found] | None,
    received: Callable[[Job, Found], object],
    is_known: Callable[[Job], bool] = lambda job: False,
) -> Iterable[Result | Found]:
    """`function` of each job, in order, as `targets.parallel_map` gives it, with what helpers do.

    Args:
        workers: how many jobs are done at once here, and at each helper; None for one a core.
        remote: does a job at a helper, which calls it with what it was told to `serve` with, and
            the number of the job. What fails there is done here, where its error can be told. None
            for jobs so short that to send them would take longer.
        received: is called here with a job and its result as soon as a helper has done it.
        is_known: whether `function` need only look a job's result up: then no helper does it.
    """
    if remote is None or not helpers():
        return parallel_map(function, jobs, workers)
    numbers = [number for number, job in enumerate(jobs) if not is_known(job)]
    try:
        sent = pickle.dumps((remote, numbers, workers))
    except (pickle.PicklingError, AttributeError, TypeError):  # a class made inside a function, say
        return parallel_map(function, jobs, workers)
    done = _spread(function, jobs, sent, numbers, workers, received)
    return (done[n] if n in done else function(job) for n, job in enumerate(jobs))


def _spread(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    sent: bytes,
    numbers: Sequence[int],
    workers: int | None,
    received: Callable[[Job, Found], object],
) -> dict[int, Result | Found]:
    """The results of the jobs of these numbers, done here and by the helpers that it is `sent`."""
    global _busy
    task, shared, done = next(_tasks), store(), dict[int, Result | Found]()
    lock, arrived = threading.Lock(), itertools.count()
    key = f"done/{task}/{next(arrived)}"

    def collect() -> None:
        nonlocal key
        with lock:
            while shared.check([key]):
                number, good, result = pickle.loads(shared.get(key))
                shared.delete_key(key)
                key = f"done/{task}/{next(arrived)}"
                if good:
                    received(jobs[number], result)
                done[number] = result if good else function(jobs[number])

    def work(_: int) -> None:
        for number in _taken(task, numbers):
            done[number] = function(jobs[number])
            collect()

    shared.set(f"task/{task}", sent)
    _busy = True
    try:
        _at_once(work, workers)
        while len(done) < len(numbers):
            collect()
            time.sleep(POLL_SECONDS)
    finally:
        _busy = False
        shared.add(f"next/{task}", _ENOUGH)  # after an error helpers need not go on
    return done


@contextlib.contextmanager
def called(function: Callable[..., object], *arguments: Any) -> Iterator[None]:
    """While the body runs, each helper runs `function`, with what it serves with and `arguments`.

    Both are one computation, which they share as `exchange` says. Nothing happens without helpers.
    """
    global _busy
    if not helpers():
        yield
        return
    store().set(f"task/{next(_tasks)}", pickle.dumps((function, arguments)))
    _busy = True
    yield
    _busy = False  # after an error they are lost


def dismiss() -> None:
    """Lets all helpers return from `serve`."""
    if place().count > 1:
        store().set(f"task/{next(_tasks)}", pickle.dumps(None))


def serve(own: Any = None) -> None:
    """Does what the first rank wants, until it needs nothing any more.

    own: what this rank has for itself, such as a data set, and functions are called with.
    `RunError`: the first rank has gone.
    """
    for task in itertools.count():
        wanted = pickle.loads(_awaited(f"task/{task}"))
        if store().add(f"read/{task}", 1) == place().count - 1:
            store().delete_key(f"task/{task}")
        if wanted is None:
            return
        if len(wanted) == 2:
            function, arguments = wanted
            function(own, *arguments)
        else:
            _help(task, own, *wanted)


def _help(
    task: int,
    own: Any,
    remote: Callable[[Any, int], object],
    numbers: Sequence[int],
    workers: int | None,
) -> None:
    """Does jobs of a task until none is left."""

    def work(_: int) -> None:
        for number in _taken(task, numbers):
            try:
                done = pickle.dumps((number, True, remote(own, number)))
            except Exception:  # the first rank finds out
                done = pickle.dumps((number, False, None))
            store().set(f"done/{task}/{store().add(f'arrived/{task}', 1) - 1}", done)

    _at_once(work, workers)


def _taken(task: int, numbers: Sequence[int]) -> Iterator[int]:
    """The jobs of a task that nobody else takes."""
    while (index := store().add(f"next/{task}", 1) - 1) < len(numbers):
        yield numbers[index]


def _at_once(work: Callable[[int], None], workers: int | None) -> None:
    for _ in parallel_map(work, range(workers or torch.get_num_threads()), workers):
        pass


def _awaited(key: str) -> bytes:
    """What the key holds, once it is there."""
    shared = store()
    try:
        while not shared.check([key]):  # `wait` would hear no signal
            time.sleep(POLL_SECONDS)
        return shared.get(key)
    except RuntimeError as error:
        raise RunError("the first of torchrun's processes has gone") from error
