"""The folder of a run: its settings, and what it has reached."""

import hashlib
import os
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from hypergen import __version__
from hypergen.catalog import ACTIVATIONS, GENERATORS, TARGETS, VALUE_NETWORKS, measure_parts
from hypergen.config import TrainConfig
from hypergen.data import DATASETS, Dataset, DatasetInfo
from hypergen.errors import InputError
from hypergen.registry import plugin_record, require_plugins
from hypergen.report.summary import run_table
from hypergen.report.verdict import verdict
from hypergen.runtime.tracker import METRICS
from hypergen.settings import COUNT, SIZE, Settings
from hypergen.storage import checkpoint
from hypergen.storage.atomic import read_json, write_json
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.folders import CONFIG, require_folder
from hypergen.storage.json_lines import json_lines
from hypergen.storage.lock import LOCK
from hypergen.training.length import with_steps

BASE, RESULTS = "base.safetensors", "results.json"
FORMAT = 2
"""Of config.json; version 0.1.0 wrote another one, without a number."""
FINGERPRINT_CHUNK = 4096
"""Images copied from a GPU, or read from a file, at once."""


@dataclass(frozen=True)
class ReportSizes(Settings):
    """How much is measured at the end of a run."""

    samples: Annotated[int, COUNT] = 16
    """networks sampled, written and measured"""
    images: Annotated[int, COUNT] = 1000
    """images for PGD-50; accuracy is over all"""
    sra_samples: Annotated[int, SIZE] = 2
    """of the samples, how many get standard robust accuracy; 0 for none"""
    sra_images: Annotated[int, COUNT] = 100
    """images for standard robust accuracy"""


@dataclass(frozen=True)
class ReportConfig(ReportSizes):
    """How much is measured at the end of a run, and on which images."""

    split: Literal["test", "val"] = "test"
    """images that the report is on: test, or val (validation) where it is still to be chosen by"""


@dataclass(frozen=True)
class RunSettings:
    """All that was asked of a run, in one file.

    info: of the data set; baselines: whether networks are trained directly beside the run;
    images: the data set's `fingerprint`, None as long as no run has begun; rungs: the shares of its
    steps, in (0,1), after which a sweep wants to know what it has reached (see `rungs`).
    """

    config: TrainConfig
    info: DatasetInfo
    report: ReportConfig
    baselines: bool = True
    images: str | None = None
    rungs: tuple[float, ...] = ()

    def on(self, dataset: Dataset) -> Self:
        """The same for these images: with their fingerprint, and as many steps as they take."""
        config = with_steps(self.config, dataset)
        return replace(self, config=config, images=fingerprint(dataset))

    @property
    def plugins(self) -> list[dict[str, str]]:
        """What of the user's own code the run needs."""
        config = self.config
        names = [
            (TARGETS, config.target),
            (ACTIVATIONS, config.activation),
            (VALUE_NETWORKS, config.value_network.kind),
            (DATASETS, config.data.name),
        ]
        for spec in config.objective.specs:  # measures that differ in options are of one kind
            names += [part for part in measure_parts(spec) if part not in names]
        if config.generator.kind != "auto":
            names.append((GENERATORS, config.generator.kind))
        return plugin_record(names)

    def save(self, folder: Path) -> None:
        """Writes config.json, at once or not at all."""
        write_json(
            folder / CONFIG,
            {
                "format": FORMAT,
                "version": __version__,
                "config": asdict(self.config),
                "data": self.info.to_json(),
                "images": self.images,
                "report": asdict(self.report),
                "baselines": self.baselines,
                "plugins": self.plugins,
                **({"rungs": self.rungs} if self.rungs else {}),
            },
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Reads what `save` wrote.

        `InputError`: no run, one of another version, a damaged file, or a plugin that it needs and
        that is not loaded; none is ever loaded here.
        """
        path = folder / CONFIG
        if not os.path.isfile(path):  # which a name of no file, however long, is not either
            raise InputError(f"{folder} is not a run: it has no {CONFIG}")
        tree = read_json(path)
        if tree.get("format") != FORMAT:
            raise InputError(_other_version(folder, tree))
        require_plugins(tree.get("plugins"), str(folder))
        if not isinstance(tree.get("baselines"), bool):
            raise InputError(f"{path}: `baselines` must be true or false")
        if not isinstance(tree.get("images", 0), str | None):
            raise InputError(f"{path}: `images` must be a fingerprint")
        rungs = tree.get("rungs", [])
        if not (isinstance(rungs, list) and all(isinstance(r, float) and 0 < r < 1 for r in rungs)):
            raise InputError(f"{path}: `rungs` must be shares of the steps, between 0 and 1")
        try:
            info = DatasetInfo.from_json(tree.get("data"))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        return cls(
            TrainConfig.from_tree(tree.get("config"), str(path)),
            info,
            ReportConfig.from_tree(tree.get("report"), str(path)),
            tree["baselines"],
            tree.get("images"),
            tuple(rungs),
        )


def fingerprint(dataset: Dataset) -> str:
    """The SHA-256 of all images and labels, in hexadecimal; the same on every device."""
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.val, dataset.test):
        for tensor in (split.images, split.labels):
            digest.update(f"{tensor.dtype} {list(tensor.shape)}".encode())
            for chunk in tensor.split(FINGERPRINT_CHUNK):
                digest.update(chunk.cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _other_version(folder: Path, tree: dict[str, Any]) -> str:
    if "format" in tree:
        by = f"hypergen {tree.get('version', 'of another version')}"
    elif {"dataset", "target", "steps"} <= tree.keys():
        by = "hypergen 0.1.0"
    else:
        return f"{folder} is not a run: its {CONFIG} holds no settings of one"
    return (
        f"{folder} was made by {by}, and this is {__version__}, which cannot read it: use that "
        "version, or train anew; its weight files in samples/ can still be evaluated"
    )


def dated(kind: str) -> Path:
    """A folder under runs/ named by the time, so exactly that no two commands share one."""
    return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S-%f}-{kind}"


def is_run(folder: Path) -> bool:
    """Whether a run was begun in the folder."""
    return (folder / CONFIG).exists()


def require_free(folder: Path, settings: RunSettings, resume: bool) -> None:
    """`InputError` when `folder` is in the way of this run, or lacks what it would go on from."""
    require_folder(folder)
    if resume:
        begun = RunSettings.load(folder)
        apart = resolved(begun.config).differences(resolved(settings.config))
        known = None not in (begun.images, settings.images)
        if begun.info != settings.info or (known and begun.images != settings.images):
            apart.append(f"the data set {settings.config.data.name} itself has changed")
        if apart:
            raise InputError(
                f"{folder} was started with other settings ({'; '.join(apart)}); resume it with "
                "its own, or choose another `out`"
            )
        if (folder / RESULTS).exists() and not checkpoint.exists(folder / CHECKPOINT):
            raise InputError(
                f"{folder} is finished and its {CHECKPOINT} was removed, so there is nothing to "
                "resume; its samples can still be evaluated, or train anew in another `out`"
            )
        return
    if is_run(folder):
        raise InputError(f"{folder} already holds a run; add `resume`, or choose another `out`")
    require_empty(folder)


def resolved(config: TrainConfig) -> TrainConfig:
    """The same settings, with what some of them follow from others: two may say the same."""
    attack = {"attack_steps": config.attack_steps, "epsilon_start": config.epsilon_start}
    return config.replace(base=config.start, **attack)


def require_empty(folder: Path) -> None:
    """`InputError` for a folder that holds anything, or that cannot be written to."""
    require_folder(folder)
    if folder.exists() and any(path.name != LOCK for path in folder.iterdir()):
        raise InputError(f"{folder} is not empty; choose another `out`")


def read_results(folder: Path) -> dict[str, Any] | None:
    """What the results.json of a run holds, None where there is none; `InputError`: damaged."""
    path = folder / RESULTS
    if not path.exists():
        return None
    result = read_json(path)
    try:  # whatever is shown of it must be there, and of its type
        str(run_table(result))
        verdict(result)
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration):
        reason = "is no report of a run, or a damaged one; remove it to have it made anew"
        raise InputError(f"{path} {reason}") from None
    return result


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """What metrics.jsonl holds, a row a step; none where there is no such file."""
    path = folder / METRICS
    raw = path.read_bytes() if path.exists() else b""
    return [step for _, step in json_lines(raw)]
