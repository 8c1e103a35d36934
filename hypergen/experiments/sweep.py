"""Sweeps: Optuna over beta and any other setting, for accuracy and robustness.

This process asks and tells; every trial is an ordinary `hypergen train` in a folder of its own,
run as a child process (see `experiments.trials`). A sweep that dies takes its children with it and
is continued by the same command.
"""

import socket
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, get_storage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.experiments.base import require_base
from hypergen.experiments.run_folder import RESULTS, ReportConfig, RunSettings, fingerprint
from hypergen.experiments.trials import GRACE_SECONDS, Machine, Trials
from hypergen.experiments.vary import DEFAULT_VARY, Suggest, parse_vary
from hypergen.report.plots import scatter, write_picture
from hypergen.runtime.progress import SILENT, Progress
from hypergen.settings import Range, Settings
from hypergen.storage.atomic import read_json, write_json
from hypergen.storage.folders import require_folder
from hypergen.storage.lock import LOCK, lock, unlock

SETTINGS = "sweep.json"


@dataclass(frozen=True)
class SweepConfig(Settings):
    """What is varied, how often, and where Optuna keeps it."""

    trials: Annotated[int, Range(1)] = 12
    """finished trials wanted in the storage, those of earlier calls included"""
    workers: Annotated[int, Range(1)] = 1
    """trials at work at once"""
    vary: tuple[str, ...] = ()
    """what to vary, repeatable: NAME=LOW:HIGH, NAME=LOW:HIGH:log or NAME=A,B,C; by default
    beta=0:1"""
    storage: str | None = None
    """any Optuna storage URL; by default a journal file in the folder"""


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """The journal file of the folder, or what the URL names."""
    if url is None:
        return JournalStorage(JournalFileBackend(str(folder / "optuna.journal")))
    try:
        return get_storage(url)
    except Exception as error:  # each back end has errors of its own
        raise InputError(f"`storage` {url}: {str(error).splitlines()[0]}") from error


class Sweep:
    """One study in one folder, locked while this object lives (see `close`).

    Args:
        config: what all trials have in common.
        dataset: of the trials; they load it anew.
        folder: of the sweep; a trial's run is in a folder inside.
        options: what is varied, and how often.
        sizes: of each trial's report.

    Raises:
        InputError: settings that cannot be, a folder that holds something else, or a storage in
            which another study has this name.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        folder: Path,
        options: SweepConfig,
        sizes: ReportConfig,
    ):
        self.config, self.dataset, self.folder = config, dataset, folder
        self.options, self.sizes = options, sizes
        self.images = fingerprint(dataset)
        self.vary: dict[str, Suggest] = {}
        for text in options.vary or DEFAULT_VARY:
            name, suggest = parse_vary(text, config)
            if name in self.vary:
                raise InputError(f"`vary`: {name} is given twice")
            self.vary[name] = suggest
        require_base(config, dataset.info)
        storage = None if options.storage is None else open_storage(options.storage, folder)
        self.check_folder()  # another's is left alone, and told without waiting for its lock
        folder.mkdir(parents=True, exist_ok=True)
        # Those of a killed sweep need a little to notice.
        self.lock = lock(folder, GRACE_SECONDS)
        try:
            self.study = self.claim(storage)
            self.study.sampler = optuna.samplers.TPESampler(seed=self.sampler_seed())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Lets others work in the folder."""
        unlock(self.folder, self.lock)

    def sampler_seed(self) -> int:
        """Of what is drawn from here on.

        Not what a continued sweep has drawn before, nor what another that shares a storage with it
        draws meanwhile.
        """
        own = zlib.crc32("".join(self.owner).encode()) if self.options.storage else 0
        drawn = len(self.study.get_trials(deepcopy=False))
        return (self.config.optimisation.seed + drawn + own) % 2**32

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
                    "repeat its command, or choose another `out`"
                )
            return True
        if folder.exists() and any(inside.name != LOCK for inside in folder.iterdir()):
            raise InputError(f"{folder} exists and is not a sweep; choose another `out`")
        return False

    def claim(self, storage: BaseStorage | None) -> optuna.Study:
        """The study, once folder and storage have these settings; `InputError` if either is taken.

        Only with the lock: another sweep may have begun in the folder until now.
        """
        begun = self.check_folder()
        if not begun:
            write_json(self.folder / SETTINGS, self.settings)
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
        upwards = [optuna.study.StudyDirection.MAXIMIZE] * 2
        if foreign or claimed not in (None, self.settings) or study.directions != upwards:
            if not begun:
                (self.folder / SETTINGS).unlink()
            raise InputError(
                f"the storage holds a study {study.study_name!r} with other settings; choose an "
                "`out` of another name"
            )
        study.set_user_attr("settings", self.settings)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(["accuracy", "robustness"])
        return study

    def work(self, machine: Machine, progress: Progress) -> None:
        """Runs trials until the storage holds as many finished as wanted; see `Trials.work`."""
        machine = replace(machine, lock=self.lock)
        trials = Trials(self.study, self.folder, self.owner, machine, self.options.workers)
        trials.work(self.options.trials, self.write_settings, self.sizes, progress)

    @property
    def owner(self) -> list[str]:
        """Whose a trial is: the folder's lock lets one process at a time work on these."""
        return [socket.gethostname(), str(self.folder.resolve())]

    def write_settings(self, trial: optuna.Trial, folder: Path) -> None:
        """Writes the configuration of a trial, its settings chosen by Optuna, as that of a run."""
        chosen = {name: suggest(trial) for name, suggest in self.vary.items()}
        config = self.config.replace(**chosen)
        settings = RunSettings(config, self.dataset.info, self.sizes, False, self.images)
        settings.save(folder)

    def origin(self, trial: FrozenTrial) -> str:
        """Where a trial was run: its folder here, else that of the sweep which shares the storage.

        The latter as a whole path, and with its host if it is another: "host:/path/trial-0000".
        """
        own = self.folder / f"trial-{trial.number:04d}"
        if own.exists():  # whatever its path was when it began
            return str(own)
        host, folder = trial.user_attrs.get("owner", self.owner)
        path = f"{folder}/{own.name}"
        return path if host == socket.gethostname() else f"{host}:{path}"

    def report(self) -> dict[str, Any]:
        """Writes results.json and scatter.png; what results.json holds, the most robust first."""
        front = {trial.number for trial in self.study.best_trials}
        finished = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        rows = [
            {
                "kind": "front" if trial.number in front else "dominated",
                "run": self.origin(trial),
                "accuracy": trial.values[0],
                "robustness": trial.values[1],
                **trial.params,
            }
            for trial in finished
        ]
        rows.sort(key=lambda row: row["robustness"], reverse=True)
        result = {
            "trials": rows,
            "varied": list(self.vary),
            "dataset": self.dataset.name,
            "report": asdict(self.sizes),
        }
        title = f"{self.dataset.name}: {len(rows)} trials"
        write_picture(self.folder / "scatter.png", scatter(rows, "robustness", title))
        write_json(self.folder / RESULTS, result)
        return result


def run_sweep(
    config: TrainConfig,
    dataset: Dataset,
    folder: Path,
    options: SweepConfig,
    machine: Machine,
    sizes: ReportConfig,
    progress: Progress = SILENT,
) -> Mapping[str, Any]:
    """Runs or continues a sweep; what its results.json holds."""
    sweep = Sweep(config, dataset, folder, options, sizes)
    try:
        sweep.work(machine, progress)
        return sweep.report()
    finally:
        sweep.close()
