"""Sweeps: Optuna over weights of measures and any other setting, for all measures of a run.

This process asks and tells; every trial is an ordinary `hypergen train` in a folder of its own,
run as a child process (see `experiments.trials`). A sweep that dies takes its children with it and
is continued by the same command.

Trials are chosen by validation images. Those that are chosen, the front, are judged once more on
test images (see `experiments.front`).
"""

import json
import socket
import zlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.experiments import study, sweep_report
from hypergen.experiments.base import require_base
from hypergen.experiments.front import judge_front, on_test
from hypergen.experiments.memory import require_run_memory
from hypergen.experiments.pages import REPORT, write_page
from hypergen.experiments.pruning import build_pruner
from hypergen.experiments.run_folder import (
    RESULTS,
    ReportConfig,
    ReportSizes,
    RunSettings,
    fingerprint,
)
from hypergen.experiments.rungs import RUNGS
from hypergen.experiments.samplers import TrialSampler
from hypergen.experiments.sweep_config import SweepConfig
from hypergen.experiments.sweep_report import SETTINGS
from hypergen.experiments.trials import GRACE_SECONDS, Machine, Trials
from hypergen.experiments.vary import default_vary, parse_all, with_chosen
from hypergen.measures import build_measures
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.sessions import SESSIONS, StoredSessions
from hypergen.storage.atomic import read_json, write_json
from hypergen.storage.folders import CONFIG, is_empty, require_folder
from hypergen.storage.lock import lock, unlock
from hypergen.training.length import with_steps

FRONT_COST = 0.05
"""About how long the front takes to judge, in times of all trials."""


class Sweep:
    """One study in one folder, locked while this object lives (see `close`).

    Args:
        config: what all trials have in common.
        dataset: of the trials; they load it anew.
        folder: of the sweep; a trial's run is in a folder inside.
        options: what is varied, and how often.
        sizes: of each trial's report, which is on validation images.

    Raises:
        InputError: settings that cannot be, a folder that holds something else, or a storage that
            is damaged or in which another study has this name.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        folder: Path,
        options: SweepConfig,
        sizes: ReportSizes,
    ):
        config = config.replace(base=config.start)  # of all trials alike, whatever their beta
        self.config, self.dataset, self.folder = config, dataset, folder
        self.measures = [spec.name for spec in config.objective.specs]
        if len(self.measures) == 1:
            raise InputError("a sweep weighs accuracy against something: name another `measure`")
        self.options = replace(options, vary=options.vary or default_vary(config))
        self.sizes = ReportConfig.of(**asdict(sizes) | {"split": "val"})
        self.images = fingerprint(dataset)
        self.vary = parse_all(self.options.vary, config)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        example = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        build_measures(self.chosen(example))  # what cannot be would else be told by a trial
        require_base(config, dataset.info)
        require_run_memory(RunSettings(config, dataset.info, self.sizes, False), dataset)
        self.check_folder()  # another's is left alone, and told without waiting for its lock
        # Behind that, for to open a storage may make it.
        storage = None if options.storage is None else study.open_storage(options.storage)
        folder.mkdir(parents=True, exist_ok=True)
        # Those of a killed sweep need a little to notice.
        self.lock = lock(folder, GRACE_SECONDS)
        try:
            self.study = self.claim(storage)
            self.study.sampler = TrialSampler(options.sampler, self.sampler_seed())
            self.study.pruner = build_pruner(options.pruner, dataset.num_classes)
            self.sessions = StoredSessions(dataset.device, folder)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets others work in the folder."""
        unlock(self.folder, self.lock)

    def sampler_seed(self) -> int:
        """Of what is drawn: not what another that shares a storage with it draws meanwhile."""
        own = zlib.crc32("".join(self.owner).encode()) if self.options.storage else 0
        return (self.config.optimisation.seed + own) % 2**32

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what its trials find, as JSON gives it back."""
        whole = {
            "config": asdict(self.config),
            "images": self.images,
            "vary": list(self.options.vary),
            "report": asdict(self.sizes),
        }
        return json.loads(json.dumps(whole))

    def check_folder(self) -> bool:
        """Whether the folder holds this sweep already; `InputError` if it holds anything else."""
        folder, path = self.folder, self.folder / SETTINGS
        require_folder(folder)
        if path.exists():
            found = read_json(path)
            if study.judged_on_test(found):
                raise InputError(f"the sweep in {folder} {study.JUDGED_ON_TEST}")
            if found != self.settings:
                raise InputError(
                    f"{folder} holds a sweep with other settings ({path.name} lists them); "
                    "repeat its command, or choose another `out`"
                )
            return True
        if not is_empty(folder):
            raise InputError(f"{folder} exists and is not a sweep; choose another `out`")
        return False

    def claim(self, storage: BaseStorage | None) -> optuna.Study:
        """The study, once folder and storage have these settings; `InputError` if either is taken.

        Only with the lock: another sweep may have begun in the folder until now.
        """
        begun = self.check_folder()
        if not begun:
            write_json(self.folder / SETTINGS, self.settings)
        try:
            if storage is None:
                return study.of_journal(self.folder, self.settings, self.measures)
            name = self.folder.name
            return study.of_storage(storage, name, self.settings, self.measures)
        except InputError:
            if not begun:
                (self.folder / SETTINGS).unlink()
            raise

    def work(self, machine: Machine, progress: Progress) -> None:
        """Runs trials until the storage holds as many as wanted; see `Trials.work`."""
        machine = replace(machine, lock=self.lock)
        alone, workers = self.options.storage is None, self.options.workers
        mine = self.study, self.folder, self.owner, self.measures
        trials = Trials(*mine, machine, workers, alone)
        trials.work(self.options.trials, self.write_settings, self.sizes, progress)

    @property
    def owner(self) -> list[str]:
        """Whose a trial is: the folder's lock lets one process at a time work on these."""
        return [socket.gethostname(), str(self.folder.resolve())]

    def chosen(self, trial: optuna.Trial) -> TrainConfig:
        """The configuration of a trial, with what Optuna has chosen."""
        chosen = {name: suggest(trial) for name, suggest in self.vary.items()}
        return with_chosen(self.config, chosen)

    def write_settings(self, trial: optuna.Trial, folder: Path) -> None:
        """Writes the configuration of a trial as that of a run.

        A run of other settings in its folder, of a trial that the storage has lost, is set aside.
        """
        self.sessions.save()  # now and then, for a kill comes without warning
        config = with_steps(self.chosen(trial), self.dataset)
        rungs = () if self.options.pruner == "none" else RUNGS
        settings = RunSettings(config, self.dataset.info, self.sizes, False, self.images, rungs)
        begun = RunSettings.load(folder) if (folder / CONFIG).exists() else settings
        if replace(begun, rungs=rungs) != settings:
            aside = (folder.with_name(f"{folder.name}-lost-{index}") for index in count(1))
            folder.rename(next(path for path in aside if not path.exists()))
            folder.mkdir()
        settings.save(folder)

    def place(self, trial: FrozenTrial) -> tuple[str | None, Path]:
        """Where a trial was run: the host, and the folder of its run. None for the host: unknown.

        That is here, else in the folder of the sweep which shares the storage.
        """
        own = self.folder / f"trial-{trial.number:04d}"
        if own.exists():  # whatever its path was when it began
            return socket.gethostname(), own
        match trial.user_attrs.get("owner"):
            case [str(host), str(folder)]:
                return host, Path(folder) / own.name
        return None, Path(own.name)

    def origin(self, trial: FrozenTrial) -> str:
        """The folder of a trial's run, with its host if it is another: "host:/path/trial-0000"."""
        host, folder = self.place(trial)
        return str(folder) if host in (None, socket.gethostname()) else f"{host}:{folder}"

    def judge_front(self, machine: Machine, progress: Progress) -> dict[str, str]:
        """Judges the front on test images, as far as that is not done and its runs are here.

        Returns run -> why it cannot be judged.
        """
        runs = {}
        for trial in self.study.best_trials:
            host, run = self.place(trial)
            if host == socket.gethostname() and run.exists():
                runs[trial.number] = run
        judged_by = self.measures, self.dataset, self.sizes, machine.device
        return judge_front(self.study, runs, *judged_by, progress)

    def report(self, failed: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Writes results.json and the pictures; what results.json holds.

        A row a trial, best first in the measure that the picture shows beside accuracy: its
        measures by name on validation images, by which the front is chosen;
        under "test" those on test images, None for what is dominated or was not judged. Beside
        them the trials that were pruned, each with the last rung that it had reached, the
        hypervolumes of the front, and how much each setting explains of each measure.
        failed: see `judge_front`.
        """
        best = [trial.number for trial in self.study.best_trials]
        front = {number: on_test(self.study, number, self.measures) for number in best}
        about = self.study, self.origin, self.measures, [*self.vary]
        result = {
            "trials": sweep_report.finished(*about, front),
            "pruned": sweep_report.pruned(*about),
            "measures": self.measures,
            "varied": list(self.vary),
            "dataset": self.dataset.title,
            **sweep_report.about(self.config, self.vary),
            "images": {"val": len(self.dataset.val), "test": len(self.dataset.test)},
            "report": asdict(self.sizes),
            "failed": dict(failed or {}),
            **sweep_report.of_front(self.study, front, self.measures, self.dataset.num_classes),
            SESSIONS: self.sessions.rows(),
        }
        sweep_report.draw(self.folder, result)
        write_page(self.folder / REPORT, sweep_report.page_of_sweep(self.folder, result))
        write_json(self.folder / RESULTS, result)
        return result


def run_sweep(
    config: TrainConfig,
    dataset: Dataset,
    folder: Path,
    options: SweepConfig,
    machine: Machine,
    sizes: ReportSizes,
    progress: Progress = SILENT,
) -> Mapping[str, Any]:
    """Runs or continues a sweep; what its results.json holds."""
    sweep = Sweep(config, dataset, folder, options, sizes)
    phases = progress.split({"trials": 1.0, "front": FRONT_COST})
    try:
        sweep.work(machine, phases["trials"])
        sweep.report()
        return sweep.report(sweep.judge_front(machine, phases["front"]))
    except study.storage_errors() as error:
        reason = study.reason(error)
        raise RunError(f"the sweep's storage failed: {reason}; repeat the command") from error
    finally:
        try:
            sweep.sessions.save()
        finally:
            sweep.close()
