"""Which command made a weight file, and at what cost, as the file and the run it lies in say."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypergen.errors import InputError
from hypergen.experiments.command_line import Making
from hypergen.experiments.run_folder import BASE, RunSettings
from hypergen.experiments.sample_config import SampleConfig
from hypergen.knob import knob_of
from hypergen.runtime.sessions import SESSIONS
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.folders import CONFIG
from hypergen.storage.weights import read_metadata
from hypergen.training.direct_config import BaselineConfig

COST = "gradient_evaluations", "seconds_trained", "trained_on"
"""What weight files and checkpoints say of the cost of a training."""


def made_by(path: Path) -> Making | None:
    """The command that made a weight file; None where nothing tells it.

    A network trained directly tells it itself; a sample only in its place, RUN/samples or wherever
    in RUN `hypergen sample` wrote it, beside the settings of the run. `InputError`: no weight file,
    or settings in it that are none.
    """
    metadata = read_metadata(path)
    if "config" in metadata:
        config = BaselineConfig.from_tree(metadata["config"], str(path))
        plugins = _sources(metadata.get("plugins"))
        return Making("baseline", (config,), (), plugins, recipe(metadata), "network.safetensors")
    run, folder = run_of(path), path.absolute().parent.name
    if run is None or not ("sampling" in metadata or folder == "samples"):
        return None
    making, sampling = making_of_run(RunSettings.load(run)), None
    what = "sample"
    if "sampling" in metadata:
        sampling = SampleConfig.from_tree(metadata["sampling"], str(path))
        if sampling.keep is not None:
            best = "the best" if sampling.keep == 1 else f"1 of the best {sampling.keep}"
            what = f"{best} of {sampling.count} samples"
    knob = knob_of(metadata)
    asked = "" if knob is None else f"; {knob} {metadata[knob]}"
    what = f"{what} of {making.recipe}{asked}"
    return replace(making, recipe=what, file=f"{folder}/{path.name}", sampling=sampling)


def cost_of(path: Path) -> dict[str, Any]:
    """What it took to train the network of a weight file: `COST`, each None where nothing tells it.

    Of a sample in its place it is what the whole generator took, which gives any number of them,
    and the network that this started from. `InputError`: as from `made_by`, or a damaged
    checkpoint.
    """
    metadata = read_metadata(path)
    run = None if "config" in metadata else run_of(path)
    if run is None or not checkpoint.exists(run / CHECKPOINT):
        return {name: metadata.get(name) for name in COST}
    settings, state = RunSettings.load(run), checkpoint.load(run / CHECKPOINT)
    parts = [state] if settings.config.start is None else [state, read_metadata(run / BASE)]
    found: dict[str, Any] = {"trained_on": None}
    for name in ("gradient_evaluations", "seconds_trained"):
        each = [part.get(name) for part in parts]
        found[name] = None if None in each else sum(each)
    if settings.baselines:  # which were trained meanwhile
        found["seconds_trained"] = None
    if found["seconds_trained"] is not None:
        devices = {row["device"] for row in state[SESSIONS]}
        found["trained_on"] = ", ".join(sorted(devices))
    return found


def making_of_run(settings: RunSettings) -> Making:
    """The command that makes a run of these settings."""
    config, flags = settings.config, () if settings.baselines else ("no_baseline",)
    what = f"a generator: {config.objective.kind}, "
    what += f"{config.optimisation.steps} steps, seed {config.optimisation.seed}"
    return Making("train", (config, settings.report), flags, _sources(settings.plugins), what)


def run_of(path: Path) -> Path | None:
    """The folder of the run that a sample lies in, RUN/FOLDER/FILE; None elsewhere."""
    run = path.absolute().parent.parent
    try:
        metadata = read_metadata(path)
        if "z" not in metadata or not (run / CONFIG).exists():
            return None
        config = RunSettings.load(run).config
    except InputError:  # of another version, or with a plugin that is not loaded
        return None
    same = (config.target, config.data.name) == (metadata.get("target"), metadata.get("dataset"))
    return run if same else None


def recipe(metadata: Mapping[str, Any]) -> str:
    """How a network was trained directly, in a few words, of what `DirectPlan.metadata` has."""
    threat = f"{metadata.get('norm')}, epsilon {metadata.get('epsilon_trained', 0.0):.4g}"
    if metadata.get("norms_trained"):
        threat = metadata["norms_trained"]
    against = "" if metadata.get("method") == "standard" else f" against {threat}"
    how = f"{metadata.get('method')}, {metadata.get('epochs')} epochs{against}"
    return f"{how}, seed {metadata.get('seed')}"


def _sources(plugins: Any) -> tuple[str, ...]:
    """Where plugins come from, each once, of a record such as weight files have."""
    rows = plugins if isinstance(plugins, list) else []
    found = [row["source"] for row in rows if isinstance(row, dict) and "source" in row]
    return tuple(dict.fromkeys(map(str, found)))
