"""Sweeps: Optuna over beta and any other field of the configuration, on two objectives.

This process asks and tells; every trial is an ordinary `hypergen train` in a folder of its own,
run as a child process. A child that dies is started again and continues its run; a sweep that
dies takes its children with it and is continued by the same command.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from attacks import AttackError
from hypergen import data
from hypergen.config import CONFIG, SweepConfig, TrainConfig, require_folder
from hypergen.errors import InputError, RunError, nearest
from hypergen.lock import LOCK, lock
from hypergen.picture import write_picture
from hypergen.report import ReportConfig
from hypergen.scatter import scatter
from hypergen.tracking import Bar, read_json, write_text
from hypergen.train import require_base
from targets import TargetError

SETTINGS = "sweep.json"
ATTEMPTS = 3
"""How often a trial's process is started before the trial counts as failed."""
GRACE_SECONDS = 15.0
"""How long a process that must end may take to save and do so."""

DEFAULT_VARY = ("beta=0:1",)

Suggest = Callable[[optuna.Trial], Any]


def parse_vary(text: str, config: TrainConfig) -> tuple[str, Suggest]:
    """ "learning-rate=1e-4:1e-2:log" -> (field, what to ask Optuna); `InputError` otherwise."""
    name, _, values = text.partition("=")
    field = name.strip().replace("-", "_")
    kinds = {f.name: f.type for f in fields(TrainConfig)}
    if field not in kinds:
        raise InputError(f'--vary: unknown setting "{name}"{nearest(field, kinds)}')
    if not values:
        raise InputError(f"--vary: expected NAME=LOW:HIGH[:log] or NAME=A,B,C, got {text}")
    kind = kinds[field]
    number = int if kind in (int, int | None) else float if kind in (float, float | None) else None
    as_text = field == "beta"  # a number in a field of text
    try:
        if ":" not in values:
            choices = [number(v) if number else v.strip() for v in values.split(",")]
            for choice in choices:
                replace(config, **{field: choice})  # raises when it cannot be
            return field, lambda trial: trial.suggest_categorical(field, choices)
        if number is None and not as_text:
            raise InputError(f"--vary: {name} takes names, NAME=A,B,C, got {text}")
        number = number or float
        low, high, *rest = values.split(":")
        low, high = number(low), number(high)
    except (InputError, AttackError, TargetError):
        raise
    except ValueError:
        raise InputError(
            f"--vary: expected numbers, NAME=LOW:HIGH[:log] or NAME=A,B,C, got {text}"
        ) from None
    log = rest == ["log"]
    if (rest and not log) or not low < high or (log and low <= 0):
        raise InputError(f"--vary: expected NAME=LOW:HIGH[:log] with LOW below HIGH, got {text}")
    for end in (low, high):
        replace(config, **{field: str(end) if as_text else end})
    if number is int:
        return field, lambda trial: trial.suggest_int(field, int(low), int(high), log=log)
    if as_text:
        return field, lambda trial: f"{trial.suggest_float(field, low, high, log=log):.6g}"
    return field, lambda trial: trial.suggest_float(field, low, high, log=log)


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The journal file of the folder, or what the URL names."""
    if url is None:
        return JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    try:
        return get_storage(url)
    except Exception as error:  # each back end has errors of its own
        raise InputError(f"--storage {url}: {str(error).splitlines()[0]}") from error


class Sweep:
    """One study and the processes that work on it."""

    def __init__(
        self,
        config: TrainConfig,
        folder: Path,
        options: SweepConfig,
        device: str,
        data_dir: Path | None,
        sizes: ReportConfig,
    ):
        self.config, self.folder, self.options = config, folder, options
        self.device, self.data_dir, self.sizes = device, data_dir, sizes
        self.vary: dict[str, Suggest] = {}
        for text in options.vary or DEFAULT_VARY:
            field, suggest = parse_vary(text, config)
            if field in self.vary:
                raise InputError(f"--vary: {field.replace('_', '-')} is given twice")
            self.vary[field] = suggest
        require_base(config)
        storage = None if options.storage is None else open_storage(options.storage, folder)
        self.check_folder()  # another's is left alone, and told without waiting for its lock
        folder.mkdir(parents=True, exist_ok=True)
        # Those of a killed sweep need a little to notice.
        self.lock = lock(folder, GRACE_SECONDS)
        try:
            self.study = self.claim(storage)
        except BaseException:
            os.close(self.lock)
            raise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.set_metric_names(["accuracy", "robustness"])
        # A continued sweep must not draw again what it has drawn before, nor what another that
        # shares a storage with it draws meanwhile.
        own = zlib.crc32("".join(self.owner).encode()) if options.storage else 0
        seed = (config.seed + len(self.study.get_trials(deepcopy=False)) + own) % 2**32
        self.study.sampler = optuna.samplers.TPESampler(seed=seed)

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what its trials find."""
        return {
            "config": asdict(self.config),
            "vary": list(self.options.vary or DEFAULT_VARY),
            "report": asdict(self.sizes),
        }

    def check_folder(self) -> bool:
        """Whether the folder holds this sweep already; `InputError` if it holds anything else."""
        folder, path = self.folder, self.folder / SETTINGS
        require_folder(folder)
        if path.exists():
            if read_json(path) != self.settings:
                raise InputError(
                    f"{folder} holds a sweep with other settings ({path.name} lists them); "
                    "repeat its command, or choose another --out"
                )
            return True
        if folder.exists() and any(inside.name != LOCK for inside in folder.iterdir()):
            raise InputError(f"{folder} exists and is not a sweep; choose another --out")
        return False

    def claim(self, storage: BaseStorage | None) -> optuna.Study:
        """The study, once folder and storage have these settings; `InputError` if either is taken.

        Only with the lock: another sweep may have begun in the folder until now.
        """
        begun = self.check_folder()
        if not begun:
            write_text(self.folder / SETTINGS, json.dumps(self.settings, indent=2) + "\n")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            study_name=self.folder.name,
            storage=storage or open_storage(None, self.folder),
            directions=["maximize", "maximize"],
            load_if_exists=True,
        )
        # A storage may be shared by sweeps of other folders of the same name.
        claimed = study.user_attrs.get("settings")
        foreign = claimed is None and study.get_trials(deepcopy=False)
        if foreign or claimed not in (None, self.settings) or len(study.directions) != 2:
            if not begun:
                (self.folder / SETTINGS).unlink()
            raise InputError(
                f"the storage holds a study {study.study_name!r} with other settings; choose an "
                "--out of another name"
            )
        study.set_user_attr("settings", self.settings)
        return study

    def trials(self, state: TrialState) -> list[FrozenTrial]:
        """The study's trials in a state."""
        return self.study.get_trials(deepcopy=False, states=(state,))

    def work(self) -> None:
        """Runs trials, `workers` at a time, until the storage holds as many finished as wanted."""
        running: dict[int, tuple[optuna.Trial, subprocess.Popen[bytes], int]] = {}
        waiting = self.abandoned()
        bar = Bar("sweep", self.options.trials, len(self.trials(TrialState.COMPLETE)))
        failures = 0
        try:
            while True:
                done = len(self.trials(TrialState.COMPLETE))
                while (
                    len(running) < self.options.workers
                    and done + len(running) < self.options.trials
                ):
                    trial = waiting.pop() if waiting else self.ask()
                    running[trial.number] = (trial, self.start(trial), 1)
                if not running:
                    return
                time.sleep(0.2)
                for number, (trial, process, attempt) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[number]
                    if self.tell(trial, process.returncode):
                        bar.advance()
                    elif killed(process) and attempt < ATTEMPTS:
                        running[number] = (trial, self.start(trial), attempt + 1)
                    else:
                        self.study.tell(trial, state=TrialState.FAIL)
                        failures += 1
                        if failures > self.options.trials:
                            raise RunError(f"too many trials fail; last: {self.complaint(trial)}")
                        if process.returncode == 2:
                            raise RunError(f"a trial cannot run: {self.complaint(trial)}")
        finally:
            stop([process for _, process, _ in running.values()])
            bar.close()

    def abandoned(self) -> list[optuna.Trial]:
        """Trials that an earlier process of this sweep, dead by now, left unfinished."""
        left = []
        for frozen in self.trials(TrialState.RUNNING):
            if frozen.user_attrs.get("owner") == self.owner:
                trial = optuna.Trial(self.study, frozen._trial_id)
                self.sign(trial)
                left.append(trial)
        return left

    @property
    def owner(self) -> list[str]:
        """Whose a trial is: the folder's lock lets one process at a time work on these."""
        return [socket.gethostname(), str(self.folder.resolve())]

    def ask(self) -> optuna.Trial:
        """A new trial, its settings chosen and written to its run folder."""
        trial = self.study.ask()
        self.sign(trial)
        return trial

    def sign(self, trial: optuna.Trial) -> None:
        """Says in the storage whose trial this is, and writes the run's configuration."""
        trial.set_user_attr("owner", self.owner)
        folder = self.run_folder(trial)
        folder.mkdir(exist_ok=True)
        chosen = {field: suggest(trial) for field, suggest in self.vary.items()}
        replace(self.config, **chosen).save(folder / CONFIG)

    def run_folder(self, trial: optuna.Trial | FrozenTrial) -> Path:
        """Where a trial's run is."""
        return self.folder / f"trial-{trial.number:04d}"

    def origin(self, trial: FrozenTrial) -> str:
        """Where a trial was run: its folder here, else that of the sweep which shares the storage.

        The latter as a whole path, and with its host if it is another: "host:/path/trial-0000".
        """
        own = self.run_folder(trial)
        if own.exists():  # whatever its path was when it began
            return str(own)
        host, folder = trial.user_attrs.get("owner", self.owner)
        path = f"{folder}/{own.name}"
        return path if host == socket.gethostname() else f"{host}:{path}"

    def start(self, trial: optuna.Trial) -> subprocess.Popen[bytes]:
        """The process of a trial: `hypergen train`, continuing what its folder has."""
        folder = self.run_folder(trial)
        command = [sys.executable, "-m", "hypergen.trial", str(os.getpid())]
        command += ["train", "--resume", "--no-baseline"]
        command += ["--out", str(folder), "--device", self.device]
        if self.data_dir is not None:
            command += ["--data-dir", str(self.data_dir)]
        for name, value in asdict(self.sizes).items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        threads = max(1, torch.get_num_threads() // self.options.workers)
        with (folder / "log.txt").open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the sweep, which passes it on once
                pass_fds=(self.lock,),  # until the last of them has ended, no other sweep begins
                env={**os.environ, "OMP_NUM_THREADS": str(threads)},
            )

    def tell(self, trial: optuna.Trial, status: int) -> bool:
        """Hands a finished run's figures to the study; whether it was finished."""
        results = self.run_folder(trial) / "results.json"
        if status != 0 or not results.exists():
            return False
        summary = read_json(results)["summary"]["sample"]
        robustness = summary.get("sra") or summary["robustness"]
        self.study.tell(trial, [summary["accuracy"]["mean"], robustness["mean"]])
        return True

    def complaint(self, trial: optuna.Trial) -> str:
        """The last line that a trial's process printed."""
        lines = (self.run_folder(trial) / "log.txt").read_text(errors="replace").splitlines()
        return lines[-1] if lines else "no output"

    def report(self) -> str:
        """Writes results.json and scatter.png; the table of the front."""
        front = {trial.number for trial in self.study.best_trials}
        rows = [
            {
                "kind": "front" if trial.number in front else "dominated",
                "run": self.origin(trial),
                "accuracy": trial.values[0],
                "robustness": trial.values[1],
                **trial.params,
            }
            for trial in self.trials(TrialState.COMPLETE)
        ]
        rows.sort(key=lambda row: row["robustness"], reverse=True)
        write_text(self.folder / "results.json", json.dumps({"trials": rows}, indent=1) + "\n")
        write_picture(self.folder / "scatter.png", scatter(rows))
        names = list(self.vary)
        shown = [row for row in rows if row["kind"] == "front"]
        wide = max([40, *(len(row["run"]) for row in shown)])
        lines = [
            f"{'run':<{wide}}{'accuracy':>10}{'robustness':>12}"
            + "".join(f"{n:>16}" for n in names)
        ]
        for row in shown:
            cells = "".join(
                f"{row[n]:>16.4g}" if isinstance(row[n], float) else f"{row[n]!s:>16}"
                for n in names
            )
            lines.append(
                f"{row['run']:<{wide}}{100 * row['accuracy']:>10.2f}"
                f"{100 * row['robustness']:>12.2f}{cells}"
            )
        sizes = self.sizes
        figure = f"PGD-50 alone (flatters), {sizes.samples} samples on {sizes.images} images"
        if sizes.sra_samples:
            few = min(sizes.sra_samples, sizes.samples)
            figure = f"standard robust accuracy, {few} samples on {sizes.sra_images} images"
        lines.append(
            f"the front of {len(rows)} trials, % of {self.config.dataset} test images; accuracy: "
            f"{sizes.samples} samples on all; robustness: {figure}; hypergen sample RUN draws from "
            "a trial"
        )
        return "\n".join(lines)


def run_sweep(
    config: TrainConfig,
    folder: Path,
    options: SweepConfig,
    device: str,
    data_dir: Path | None,
    sizes: ReportConfig,
) -> None:
    """`hypergen sweep`: runs or continues a sweep and prints its front."""
    data.load(config.dataset, data_dir)  # missing files are told once, before any trial
    sweep = Sweep(config, folder, options, device, data_dir, sizes)
    try:
        sweep.work()
        print(sweep.report())
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; repeat the command to continue") from None
    finally:
        os.close(sweep.lock)
    print(f"written to {folder}: results.json, scatter.png, one run folder a trial")


def killed(process: subprocess.Popen[bytes]) -> bool:
    """Whether an ended process was stopped from outside, so that its run can be continued."""
    return process.returncode < 0 or process.returncode == 128 + signal.SIGINT


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
