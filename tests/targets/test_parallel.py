"""Jobs side by side: order, threads, interruption."""

import _thread
import sys
import threading
import time

import pytest
import torch

from targets import TargetError, parallel_map


@pytest.fixture(autouse=True)
def _two_cores():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_order():
    def slow_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    assert list(parallel_map(slow_first, iter(range(6)))) == [0, 1, 4, 9, 16, 25]


def test_one_core_each_and_all_back_after():
    both = threading.Barrier(2, timeout=10)

    def cores(_):
        both.wait()  # passes only when two run side by side
        return torch.get_num_threads()

    assert list(parallel_map(cores, range(4))) == [1, 1, 1, 1]
    assert torch.get_num_threads() == 2


def test_threads_are_kept():
    """And with them their copies of modules."""
    both = threading.Barrier(2, timeout=10)

    def thread(_):
        both.wait()
        return threading.get_ident()

    first, second = (set(parallel_map(thread, range(2))) for _ in range(2))
    assert first == second and len(first) == 2


def test_fewer_workers():
    alone = threading.Lock()

    def run(item):
        assert alone.acquire(blocking=False)
        time.sleep(0.002)
        alone.release()
        return item

    assert list(parallel_map(run, range(6), max_workers=1)) == list(range(6))


def test_exceptions():
    ran = []

    def fails(item):
        ran.append(item)
        if item == 1:
            raise TargetError("no such network")
        time.sleep(0.002)  # or all might be done before the error is seen
        return item

    results = parallel_map(fails, range(1000))
    assert next(results) == 0
    with pytest.raises(TargetError, match="no such network"):
        list(results)
    assert len(ran) < 1000, "the rest should have been called off"
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("interrupted", [True, False])
def test_what_is_running_is_waited_for(interrupted):
    """Whether the caller is interrupted meanwhile, or there is no next item."""
    begun, ended = threading.Event(), []

    def run(item):
        begun.set()
        if interrupted:
            _thread.interrupt_main()
        time.sleep(0.1)
        ended.append(item)

    def items():
        yield 0
        if not interrupted:
            assert begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(parallel_map(run, items()))
    assert ended == [0] and torch.get_num_threads() == 2


def test_long_items_are_told_to_stop():
    stop, both = threading.Event(), threading.Barrier(2, timeout=10)

    def run(item):
        both.wait()
        if item == 0:
            raise TargetError("no such network")
        assert stop.wait(10), "never told"

    with pytest.raises(TargetError):
        list(parallel_map(run, range(2), stop=stop))
    assert stop.is_set()


@pytest.mark.parametrize("recording", [True, False])
def test_records_gradients_where_the_caller_does(recording):
    with torch.set_grad_enabled(recording):
        assert list(parallel_map(lambda _: torch.is_grad_enabled(), [0])) == [recording]


@pytest.mark.parametrize("max_workers", [1, 2])
def test_inference_mode_is_that_of_the_caller(max_workers):
    with torch.inference_mode():
        inside = list(parallel_map(lambda _: torch.is_inference_mode_enabled(), [0], max_workers))
    outside = list(parallel_map(lambda _: torch.is_inference_mode_enabled(), [0], max_workers))
    assert inside == [True] and outside == [False]


def test_nothing_to_do():
    assert list(parallel_map(print, [])) == []


def test_a_thread_whose_start_was_interrupted_ends(monkeypatch):
    """Python would wait for it at the end of the process, and does not know to tell it."""
    before, usual = {*threading.enumerate()}, threading.Event.wait

    def wait(event, timeout=None):
        done = usual(event, timeout)
        if sys._getframe(1).f_code.co_name == "start":
            raise KeyboardInterrupt
        return done

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(threading.Event, "wait", wait)
        list(parallel_map(abs, range(4), max_workers=7))  # as no other test has it
    for thread in {*threading.enumerate()} - before:
        thread.join(10)
        assert not thread.is_alive()
    assert list(parallel_map(abs, range(4), max_workers=7)) == [0, 1, 2, 3]
