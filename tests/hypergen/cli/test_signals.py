"""Signals that ask a command to end: all take the way of Ctrl-C, wherever they come."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hypergen.cli.main import exit_status, main
from hypergen.cli.signals import Interrupted, interruptible
from hypergen.errors import InputError
from hypergen.experiments.trials import killed
from hypergen.runtime.signals import COPY_SECONDS, ENDING
from hypergen.storage import checkpoint
from hypergen.training.loop import deferred_interrupt
from hypergen.training.trainer import Trainer
from tests.hypergen.cli.programs import ROOT, start

EACH = pytest.mark.parametrize("number", ENDING, ids=lambda number: signal.Signals(number).name)
WAIT = 'import time; open("begun", "w").close(); time.sleep(60)'
"""What a command does when a signal comes."""


@pytest.fixture
def usual_handlers() -> Iterator[Callable[[], list]]:
    """Signals as a terminal has them; what asks for the handlers that there are now."""
    usual = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    before = [signal.signal(*pair) for pair in zip(ENDING, usual, strict=True)]
    yield lambda: [signal.getsignal(number) for number in ENDING]
    for number, handler in zip(ENDING, before, strict=True):
        signal.signal(number, handler)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@EACH
def test_imports_are_ended_at_once_and_in_silence(number, tmp_path):
    """Whatever a module makes of an exception in the middle of it."""
    importing = (
        f"try:\n    {WAIT}\nexcept BaseException:\n    raise ImportError('half') from None\n"
    )
    process = start(tmp_path, "print('done')", importing)
    wait_for(tmp_path / "begun", process)
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 128 + number


@EACH
@pytest.mark.parametrize("work", [WAIT, f"exec('''{WAIT}''')"], ids=["plain", "exec"])
def test_work_is_saved_and_told_in_one_line(work, number, tmp_path):
    """CPython notes an interrupt within exec, and would have the process end in its own way."""
    body = f"""
        try:
            {work}
        except KeyboardInterrupt:
            open("saved", "w").close()
            raise KeyboardInterrupt("; repeat it") from None
    """
    process = start(tmp_path, body)
    wait_for(tmp_path / "begun", process)
    process.send_signal(number)
    assert process.communicate(timeout=30) == ("", "hypergen: interrupted; repeat it\n")
    assert process.returncode == 128 + number and (tmp_path / "saved").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP here")
def test_what_was_ignored_from_the_start_stays_ignored(tmp_path):
    """`nohup`, and Ctrl-C for what a shell runs in the background."""
    ignored = (signal.SIGHUP, signal.SIGINT)

    def ignore() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    body = "import time\nopen('begun', 'w').close()\ntime.sleep(1)\nprint('done')"
    process = start(tmp_path, body, preexec_fn=ignore)
    wait_for(tmp_path / "begun", process)
    for number in ignored:
        process.send_signal(number)
    assert process.communicate(timeout=30) == ("done\n", "") and process.returncode == 0


@EACH
@pytest.mark.usefixtures("usual_handlers")
def test_an_interrupted_command_tells_its_signal(number, capsys):
    def action() -> None:
        with interruptible():
            try:
                signal.raise_signal(number)
            except KeyboardInterrupt:
                raise KeyboardInterrupt("; repeat it") from None

    assert exit_status(action) == 128 + number
    assert capsys.readouterr().err == "hypergen: interrupted; repeat it\n"


class Thing:
    """What weak references can be to."""


def interrupted(failure: Exception) -> None:
    """Ends as where something that Ctrl-C leaves fails to clear up, and a command tells of that."""
    try:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)
        finally:
            raise failure
    except RuntimeError as error:
        raise InputError(f"a.safetensors: {error}") from error


@pytest.mark.parametrize(
    "failure",
    [RuntimeError("empty mode stack"), AssertionError(), FileNotFoundError(errno.ENOENT, "gone")],
)
def test_an_interrupt_hidden_by_what_clears_up_is_told(failure, usual_handlers):
    """As of PyTorch's context of a device, or Optuna's lock, where a signal comes in its middle."""
    with (
        pytest.raises(Interrupted, match="^; clearing up failed: "),
        interruptible(),
    ):
        interrupted(failure)


def test_where_no_signal_came_nothing_is_hidden(usual_handlers):
    with pytest.raises(RuntimeError, match="of a plugin"), interruptible():
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("of a plugin")


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "full"), RuntimeError("not enough memory")]
)
def test_what_goes_wrong_while_a_signal_is_answered_is_told(failure, usual_handlers):
    with pytest.raises((OSError, InputError)), interruptible():
        interrupted(failure)


@EACH
def test_a_signal_that_python_throws_away_comes_again(number, usual_handlers):
    before, thing = sys.unraisablehook, Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(number))
    with pytest.raises(Interrupted) as caught, interruptible():
        del thing
        time.sleep(3)
    assert caught.value.number == number and reference() is None
    assert sys.unraisablehook is before


@pytest.mark.usefixtures("usual_handlers")
def test_what_else_python_throws_away_is_told_as_ever(monkeypatch):
    told, thing = [], Thing()
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    reference = weakref.ref(thing, lambda _: 1 // 0)
    with interruptible():
        del thing
    assert told == [ZeroDivisionError] and reference() is None


@EACH
def test_the_first_signal_waits_for_the_step_and_the_second_does_not(number, usual_handlers):
    before = usual_handlers()
    with pytest.raises(Interrupted) as caught, interruptible(), deferred_interrupt() as asked:
        signal.raise_signal(number)
        assert asked.is_set()
        time.sleep(COPY_SECONDS)
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.number == number and usual_handlers() == before


@pytest.mark.usefixtures("usual_handlers")
def test_one_request_that_comes_twice_counts_once():
    """To all processes of a job, and from its sweep to a trial."""
    with pytest.raises(Interrupted) as caught, interruptible(), deferred_interrupt() as asked:
        signal.raise_signal(signal.SIGTERM)
        for number in ENDING:
            signal.raise_signal(number)
        assert asked.is_set()
        raise KeyboardInterrupt  # as `train` does when it has saved
    assert caught.value.number == signal.SIGTERM


def test_the_python_api_defers_ctrl_c_alone(usual_handlers):
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as a user may
    before = usual_handlers()
    with deferred_interrupt():
        assert usual_handlers()[1:] == before[1:] and usual_handlers()[0] != before[0]
    assert usual_handlers() == before


def test_handlers_of_the_users_own_are_left_alone(usual_handlers):
    def own(*_: object) -> None:
        """Does nothing."""

    signal.signal(signal.SIGTERM, own)
    with interruptible(), deferred_interrupt() as asked:
        assert signal.getsignal(signal.SIGTERM) is own
        signal.raise_signal(signal.SIGTERM)
    assert not asked.is_set() and signal.getsignal(signal.SIGTERM) is own


def test_other_threads_change_nothing(usual_handlers):
    before, seen = usual_handlers(), []

    def work() -> None:
        with interruptible(), deferred_interrupt():
            seen.append(usual_handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


TRAIN = (
    "train --target mlp --population 2 --batch-size 8 --max-robustness-gap 1 --samples 2 "
    "--images 20 --sra-samples 0 --no-baseline"
)


@pytest.mark.usefixtures("usual_handlers")
def test_a_training_saves_whole_steps_and_goes_on(tmp_path, monkeypatch, capsys):
    whole = Trainer.advance

    def advance(self):
        if self.step == 2:
            signal.raise_signal(signal.SIGTERM)
        return whole(self)

    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "advance", advance)
        assert main([*TRAIN.split(), "--steps", "4", "--out", str(folder)]) == 143
    again = f"train --resume --out {folder}"
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == f"hypergen: interrupted; continue by hypergen {again}"
    assert checkpoint.load(folder / checkpoint.CHECKPOINT)["step"] == 3
    assert not list(folder.glob(".*"))
    assert main(again.split()) == 0
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 4


@EACH
def test_a_trial_that_was_asked_to_end_is_continued(number):
    process = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({128 + number})"])
    process.wait()
    assert killed(process)


@EACH
@pytest.mark.slow
def test_a_sweep_has_its_trials_saved(number, tmp_path):
    """Also one in the background of a shell, where Ctrl-C is ignored: it passes it on all the same.

    It cannot be told to end by it, though.
    """

    def ignore() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    options = TRAIN.removeprefix("train").replace("--no-baseline", "--steps 100000 --workers 2")
    process = subprocess.Popen(
        [sys.executable, "-m", "hypergen", "sweep", *options.split(), "--out", "sweep"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=None if number == signal.SIGINT else ignore,
    )
    trials = [tmp_path / "sweep" / f"trial-000{index}" for index in range(2)]
    for trial in trials:
        wait_for(trial / "metrics.jsonl", process)
        while not (trial / "metrics.jsonl").read_text():
            time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    again = "repeat the command with --out sweep to continue"
    assert said.splitlines()[-1] == f"hypergen: interrupted; {again}"
    for trial in trials:
        assert (trial / "log.txt").read_text().splitlines()[-1].startswith("hypergen: interrupted")
        steps = len((trial / "metrics.jsonl").read_text().splitlines())
        assert checkpoint.load(trial / checkpoint.CHECKPOINT)["step"] == steps
    assert not list((tmp_path / "sweep").rglob(".*"))
