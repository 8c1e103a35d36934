"""Networks trained directly, as files: one by itself, or several beside a run."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import targets
from hypergen import __version__
from hypergen.data import Dataset
from hypergen.errors import InputError, RunError
from hypergen.experiments.memory import require_baseline_memory
from hypergen.measures.attacked import accuracies
from hypergen.models.bundle import describe
from hypergen.runtime import crew
from hypergen.runtime.device import device_name
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.sessions import SESSIONS, Sessions
from hypergen.settings import differences
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.folders import require_folder
from hypergen.storage.lock import locked
from hypergen.storage.weights import read_metadata, save_network
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from hypergen.training.micro_batches import trainings_at_once
from targets import parallel_map

NETWORK = "network.safetensors"


@dataclass(frozen=True)
class Baseline:
    """A network trained directly: its file, itself, and its accuracy on all test images."""

    file: Path
    network: nn.Module
    accuracy: float


def train_baseline(
    config: BaselineConfig,
    dataset: Dataset,
    out: Path,
    device: torch.device,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Baseline:
    """Trains out/network.safetensors, or continues after the last whole epoch.

    Raises:
        InputError: a folder with another network, or with a training cut short and no `resume`.
        RunError: the training diverges.
        KeyboardInterrupt: it was interrupted; whole epochs are saved.
    """
    path, saved = out / NETWORK, out / CHECKPOINT
    require_folder(out)
    require_baseline_memory(config, dataset)
    _require_begun(out, config, resume)
    with locked(out):
        _require_begun(out, config, resume)  # again: until now another command could be at work
        sessions = Sessions(device)
        network, seconds = _trained(config, dataset, device, saved, sessions, progress)
        whole = dataset.test.first(len(dataset.test))
        accuracy = float(accuracies(targets.Population.of([network]), *whole))
        cost = {"seconds_trained": seconds, "trained_on": device_name(device)}
        cost[SESSIONS] = sessions.rows()
        save_baseline(path, network, config, dataset, accuracy=accuracy, **cost)
        checkpoint.remove(saved)
    return Baseline(path, network, accuracy)


def train_baselines(
    recipes: Mapping[Path, BaselineConfig],
    dataset: Dataset,
    device: torch.device,
    stop: threading.Event | None = None,
    progress: Progress = SILENT,
) -> None:
    """Writes the weight files that are not there yet; one that was cut short continues.

    Several networks are trained at once, one a core: each comes out as it would on one core alone.
    A single one gets all cores. Ranks that wait for work train some; one that is killed begins its
    network anew. `RunError` once `stop` is set.
    """
    stopped = stop or threading.Event()
    missing = {path: config for path, config in recipes.items() if not path.exists()}
    costs = {path.stem: _cost(config, dataset) for path, config in missing.items()}
    phases = progress.split(costs) if costs else {}

    def require_wanted() -> None:
        if stopped.is_set():
            raise RunError("stopped")

    def write(job: tuple[Path, BaselineConfig]) -> None:
        path, config = job
        saved = path.with_suffix(".checkpoint.safetensors")
        phase = phases[path.stem]
        # Its seconds are left out: others are trained meanwhile.
        alone = Sessions(device)
        network, _ = _trained(config, dataset, device, saved, alone, phase, require_wanted)
        save_baseline(path, network, config, dataset)
        checkpoint.remove(saved)

    def received(job: tuple[Path, BaselineConfig], network: nn.Module) -> None:
        path, config = job
        save_baseline(path, network, config, dataset)
        checkpoint.remove(path.with_suffix(".checkpoint.safetensors"))
        phases[path.stem].finish()

    jobs = tuple(missing.items())
    if len(recipes) == 1:
        written = map(write, jobs)
    else:
        at_once = trainings_at_once(missing.values(), dataset, device)
        if crew.helpers():
            remote = partial(_trained_elsewhere, tuple(missing.values()))
            written = crew.mapped(write, jobs, at_once, remote, received)
        else:
            written = parallel_map(write, jobs, at_once, stopped)
    for _ in written:
        pass


@contextlib.contextmanager
def trained_alongside(
    recipes: Mapping[Path, BaselineConfig],
    dataset: Dataset,
    device: torch.device,
    progress: Progress = SILENT,
) -> Iterator[None]:
    """Trains baselines while the body does something else; both have ended in the end.

    A body that fails or is interrupted stops them, to be continued another time. On a GPU they come
    after the body: no steps can be recorded there while another thread launches anything. So they
    do with several ranks, which share the body.
    """
    if device.type != "cpu" or crew.helpers():
        yield
        train_baselines(recipes, dataset, device, progress=progress)
        return
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        try:
            trained = pool.submit(train_baselines, recipes, dataset, device, stop, progress)
            yield
            trained.result()
        except BaseException:
            stop.set()
            raise


def cost_left(recipes: Mapping[Path, BaselineConfig], dataset: Dataset) -> float:
    """About what training all files costs that are not there yet, in forward passes."""
    return sum(_cost(config, dataset) for path, config in recipes.items() if not path.exists())


def _cost(config: BaselineConfig, dataset: Dataset) -> float:
    return _plan(config, dataset).cost


def _plan(config: BaselineConfig, dataset: Dataset) -> DirectPlan:
    return DirectPlan.of(config, dataset.info, len(dataset.train))


def save_baseline(
    path: Path, network: nn.Module, config: BaselineConfig, dataset: Dataset, **figures: Any
) -> None:
    """Writes a weight file with what made it, what that took, and the figures measured.

    Its `config` are the settings whole, as `BaselineConfig.from_tree` reads them.
    """
    layout = targets.WeightLayout.of(network)
    metadata = describe(config.target, config.activation, dataset.info, layout)
    plan = _plan(config, dataset)
    metadata |= plan.metadata() | {"config": asdict(config), "version": __version__}
    metadata |= {"gradient_evaluations": plan.gradient_evaluations} | figures
    save_network(path, network.state_dict(), metadata)


def require_trained_by(path: Path, config: BaselineConfig, dataset: Dataset) -> None:
    """`InputError` for a weight file that was trained with other settings."""
    asked = {"target": config.target, "activation": config.activation, "dataset": dataset.name}
    asked |= _plan(config, dataset).metadata()
    apart = differences(read_metadata(path), asked)
    if apart:
        raise InputError(f"{path} was trained with other settings: {'; '.join(apart)}")


def _trained(
    config: BaselineConfig,
    dataset: Dataset,
    device: torch.device,
    saved: Path,
    sessions: Sessions,
    progress: Progress,
    require_wanted: Callable[[], object] = lambda: None,
) -> tuple[nn.Module, float]:
    """The network in the end, and the seconds that its training took (see `DirectTrainer`).

    Every epoch ends with a checkpoint, from which it continues, as do the sessions.
    """
    trainer = DirectTrainer(config, dataset, device)
    if checkpoint.exists(saved):
        sessions.follow(checkpoint.resume(saved, trainer.load_state_dict).get(SESSIONS))
    progress.start(trainer.steps, trainer.step)
    saved.parent.mkdir(parents=True, exist_ok=True)

    def after_step() -> None:
        require_wanted()
        progress.advance()

    def save(state: dict[str, Any]) -> None:
        checkpoint.save(saved, state | {SESSIONS: sessions.rows()})

    network = train_direct(trainer, after_step, save)
    return network, trainer.seconds


def _trained_elsewhere(
    configs: Sequence[BaselineConfig], dataset: Dataset, number: int
) -> nn.Module:
    """What a helper trains, and sends on the CPU."""
    return train_direct(DirectTrainer(configs[number], dataset, dataset.device)).cpu()


def _require_begun(out: Path, config: BaselineConfig, resume: bool) -> None:
    """`InputError` unless the folder is free, or has a checkpoint of the same settings."""
    path, saved = out / NETWORK, out / CHECKPOINT
    if path.exists():
        raise InputError(f"{path} exists; choose another `out`")
    if not checkpoint.exists(saved):
        return
    begun = checkpoint.load(saved)
    if not isinstance(begun, dict) or "best_state" not in begun:
        raise InputError(f"{out} holds a run, no direct training; choose another `out`")
    if not resume:
        raise InputError(f"{out} holds a training cut short; add `resume`")
    apart = BaselineConfig.from_tree(begun["config"], str(saved)).differences(config)
    if apart:
        raise InputError(f"{out} was started with other settings: {'; '.join(apart)}")
