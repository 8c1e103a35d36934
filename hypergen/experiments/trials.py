"""The trials of a sweep: each a child process that runs `hypergen train` in a folder of its own.

A child that dies is started again and continues its run; children end with their sweep.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from hypergen.errors import REFUSED_STATUS, InputError, RunError, option
from hypergen.experiments import pruning
from hypergen.experiments.heartbeat import BEAT, Heartbeat, finish
from hypergen.experiments.run_folder import RESULTS, ReportConfig
from hypergen.experiments.rungs import read_rungs
from hypergen.runtime.progress import Progress
from hypergen.runtime.signals import ENDING
from hypergen.storage.atomic import read_json

MAX_ATTEMPTS = 3
"""How often a trial's process is started before the trial counts as failed."""
REFUSED = "refused"
"""The user attribute of a trial that counts how often it has ended a sweep; see `_postpone`."""
GRACE_SECONDS = 15.0
"""How long a process that must end may take to save and do so."""


@dataclass(frozen=True)
class Machine:
    """What trials run on: a device by its name, the folder of data sets, plugins, their lock.

    memory: bytes that all of them may use together; None for what each takes by itself.
    lock: the handle of the sweep's lock, which they hold as well: until the last of them has ended
    no other sweep begins.
    """

    device: str
    data_dir: Path | None
    plugins: tuple[str, ...] = ()
    lock: int | None = None
    memory: int | None = None


class Trials:
    """Runs the trials of a study, several at a time.

    Args:
        study: asks and is told.
        folder: of the sweep.
        owner: host and folder, by which a trial in a shared storage is known to be of this sweep.
        measures: the names of what the study is told of a trial.
        machine: what trials run on.
        workers: how many at a time.
        alone: no other sweep has trials in the study.
    """

    def __init__(
        self,
        study: optuna.Study,
        folder: Path,
        owner: list[str],
        measures: Sequence[str],
        machine: Machine,
        workers: int,
        alone: bool = False,
    ):
        self.study, self.folder, self.owner = study, folder, owner
        self.measures, self.machine, self.workers, self.alone = measures, machine, workers, alone
        self.stored: dict[int, int] = {}  # how many rungs of a trial stand in the storage

    def work(
        self,
        wanted: int,
        write_settings: Callable[[optuna.Trial, Path], None],
        sizes: ReportConfig,
        progress: Progress,
    ) -> None:
        """Runs trials until the storage holds `wanted` finished or pruned ones.

        write_settings: writes a trial's configuration into its folder; sizes: of its report.
        `RunError` when too many fail; `InputError`: a results.json that is not what was asked for,
        or a damaged file of a run.
        """
        running: dict[int, tuple[optuna.Trial, subprocess.Popen[bytes], int]] = {}
        waiting = self.abandoned(write_settings)
        progress.start(wanted, min(wanted, self._finished()))
        failures, heartbeat = 0, Heartbeat(self.study)
        try:
            while True:
                while len(running) < self.workers and self._finished() + len(running) < wanted:
                    trial = waiting.pop() if waiting else self.ask(write_settings)
                    running[trial.number] = trial, self.start(trial, sizes), 1
                if not running:
                    return
                if not self.alone:
                    heartbeat.beat([*waiting, *(trial for trial, _, _ in running.values())])
                time.sleep(0.2)
                for number, (trial, process, attempt) in list(running.items()):
                    status, hopeless = process.poll(), self.is_hopeless(trial)
                    if status is None and not hopeless:
                        continue
                    if status is None:
                        self.prune(trial, process)
                    del running[number]
                    if status is None or self.tell(trial, status, sizes):
                        progress.advance()
                    elif killed(process) and attempt < MAX_ATTEMPTS:
                        running[number] = trial, self.start(trial, sizes), attempt + 1
                    else:
                        failures += 1
                        self._fail(trial, status, failures > wanted)
        finally:
            stop([process for _, process, _ in running.values()])

    def _finished(self) -> int:
        states = (TrialState.COMPLETE, TrialState.PRUNED)
        return len(self.study.get_trials(deepcopy=False, states=states))

    def _fail(self, trial: optuna.Trial, status: int, too_many: bool) -> None:
        """Tells the study of a trial that failed; `RunError` where going on is of no use."""
        if status == REFUSED_STATUS:
            self._postpone(trial)
        finish(self.study, trial, TrialState.FAIL)
        if too_many:
            raise RunError(f"too many trials fail; last: {self.complaint(trial)}")
        if status == 2:
            raise RunError(f"a trial cannot run: {self.complaint(trial)}")

    def _postpone(self, trial: optuna.Trial) -> None:
        """Ends the sweep by a `RunError`, and leaves the trial to the next process of the sweep.

        The system refused it a file, by a full disk say: other trials would meet the same. What
        that does `MAX_ATTEMPTS` times is not put off again.
        """
        count = self._frozen(trial).user_attrs.get(REFUSED, 0) + 1
        trial.set_user_attr(REFUSED, count)
        if count < MAX_ATTEMPTS:
            told = f"trial {trial.number} could not go on: {self.complaint(trial)}"
            raise RunError(f"{told}; mend that, and repeat the command: it goes on with the trial")

    def abandoned(self, write_settings: Callable[[optuna.Trial, Path], None]) -> list[optuna.Trial]:
        """Trials that an earlier process of this sweep, dead by now, left unfinished.

        Where there is no other sweep these are all: it may have died before it had signed one, and
        its folder may have been moved.
        """
        running = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        trials = [
            optuna.Trial(self.study, frozen._trial_id)
            for frozen in running
            if self.alone or frozen.user_attrs.get("owner") == self.owner
        ]
        for trial in trials:
            self._sign(trial, write_settings)
        return trials

    def ask(self, write_settings: Callable[[optuna.Trial, Path], None]) -> optuna.Trial:
        """A new trial, its settings chosen and written to its run folder."""
        trial = self.study.ask()
        self._sign(trial, write_settings)
        return trial

    def _sign(
        self, trial: optuna.Trial, write_settings: Callable[[optuna.Trial, Path], None]
    ) -> None:
        """Says in the storage whose trial this is, and writes the run's configuration."""
        trial.set_user_attr("owner", self.owner)
        if not self.alone:
            trial.set_user_attr(BEAT, 0)
        folder = self.run_folder(trial)
        folder.mkdir(exist_ok=True)
        try:
            write_settings(trial, folder)
        except InputError:  # by what was chosen together: else every repetition would meet it again
            finish(self.study, trial, TrialState.FAIL)
            raise

    def run_folder(self, trial: optuna.Trial | FrozenTrial) -> Path:
        """Where a trial's run is."""
        return self.folder / f"trial-{trial.number:04d}"

    def start(self, trial: optuna.Trial, sizes: ReportConfig) -> subprocess.Popen[bytes]:
        """The process of a trial: `hypergen train`, continuing what its folder has."""
        folder = self.run_folder(trial)
        command = [sys.executable, "-m", "hypergen.cli.trial", str(os.getpid())]
        command += ["train", "--resume", "--no-baseline"]
        command += ["--out", str(folder), "--device", self.machine.device]
        if self.machine.data_dir is not None:
            command += ["--data-dir", str(self.machine.data_dir)]
        if self.machine.memory is not None:
            command += ["--memory", str(self.machine.memory // self.workers)]
        for plugin in self.machine.plugins:
            command += ["--plugin", plugin]
        for name, value in asdict(sizes).items():
            command += [option(name), str(value)]
        threads = max(1, torch.get_num_threads() // self.workers)
        held = () if self.machine.lock is None else (self.machine.lock,)
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the sweep, which passes it on once
                pass_fds=held,
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            )

    def tell(self, trial: optuna.Trial, status: int, sizes: ReportConfig) -> bool:
        """Hands a finished run's figures to the study; whether it was finished."""
        folder = self.run_folder(trial)
        if status != 0 or not (folder / RESULTS).exists():
            return False
        # If another sweep took it for dead meanwhile, its settings run again: this does not count.
        found = figures(folder, sizes, self.measures)
        finish(self.study, trial, TrialState.COMPLETE, found)
        return True

    def is_hopeless(self, trial: optuna.Trial) -> bool:
        """Stores what a trial has reached at rungs since; whether the study's pruner gives it up.

        The pruner is asked once a rung.
        """
        found = read_rungs(self.run_folder(trial), self.measures)
        known = len(found) == self.stored.get(trial.number, 0)
        if known or self._frozen(trial).state.is_finished():
            return False
        new = found.keys() - pruning.reached(self._frozen(trial), len(self.measures)).keys()
        for rung in new:
            pruning.report(trial, rung, found[rung])
        self.stored[trial.number] = len(found)
        return bool(new) and self.study.pruner.prune(self.study, self._frozen(trial))

    def _frozen(self, trial: optuna.Trial) -> FrozenTrial:
        trials = self.study.get_trials(deepcopy=False)
        return next(each for each in trials if each.number == trial.number)

    def prune(self, trial: optuna.Trial, process: subprocess.Popen[bytes]) -> None:
        """Ends a trial's process, which saves first.

        The study is told before that: a sweep that dies meanwhile does not take the trial up again.
        """
        finish(self.study, trial, TrialState.PRUNED)
        stop([process])

    def complaint(self, trial: optuna.Trial) -> str:
        """The last line that a trial's process printed."""
        lines = (self.run_folder(trial) / "log.txt").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "no output"


def figures(run: Path, sizes: ReportConfig, measures: Sequence[str]) -> list[float]:
    """The measures of a run's samples, means in [0,1], as its results.json has them.

    "robustness" is standard robust accuracy, or PGD where `sizes` wants none of that.
    `InputError`: a report of other sizes, or on other images, or a damaged one.
    """
    path = run / RESULTS
    tree = read_json(path)
    if tree.get("report") != asdict(sizes):
        raise InputError(f"{path} is not the report that was asked for; remove it to have it anew")
    judged_as = {"robustness": "sra" if sizes.sra_samples else "pgd"}
    found = [_mean(tree, judged_as.get(name, name)) for name in measures]
    if None in found:
        raise InputError(f"{path} is damaged (no figures of samples); remove it to have it anew")
    return found


def _mean(tree: Any, figure: str) -> Any:
    """The samples' mean; None unless it is a share."""
    for name in ("summary", "sample", figure, "mean"):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree if type(tree) in (int, float) and 0 <= tree <= 1 else None


def killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether an ended process was stopped from outside, so that its run can be continued."""
    return process.returncode < 0 or process.returncode in {128 + number for number in ENDING}


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Ends the processes; each may save first."""
    end = time.monotonic() + GRACE_SECONDS
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        try:
            process.wait(max(0.0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
