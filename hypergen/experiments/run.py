"""A run from its configuration to its report: one folder, resumable at any point."""

import gc
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from attacks import AttackError
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments import front_growth
from hypergen.experiments.base import prepare_base, require_base, untrained_base
from hypergen.experiments.baseline import cost_left, trained_alongside
from hypergen.experiments.compare import REPORTED, judge_of, report, report_costs
from hypergen.experiments.competitors import direct_recipes, share_base
from hypergen.experiments.memory import require_run_memory
from hypergen.experiments.run_folder import BASE, RunSettings, read_results, require_free, resolved
from hypergen.experiments.rungs import measure_rung
from hypergen.experiments.shown import show_check, show_end
from hypergen.measures import raised
from hypergen.models.bundle import ModelBundle
from hypergen.report.summary import run_table
from hypergen.runtime.exchange import require_networks
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.sessions import SESSIONS, Sessions
from hypergen.runtime.torch_state import usual_state
from hypergen.runtime.tracker import Tracker
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.folders import CONFIG, expanded, is_empty
from hypergen.storage.lock import LOCK, locked
from hypergen.storage.weights import load_network
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.loop import train
from hypergen.training.trainer import Trainer
from targets import Population, TargetError

REPORT_SHARE = 0.2
"""Of what a report would cost if all images survived all attacks, in batches as small as a training
step's: what is broken is not attacked again, and batches are larger (measured on digits)."""


@dataclass(frozen=True)
class Run:
    """A trained generator in its folder.

    Attributes:
        folder: where everything of the run is.
        settings: what was asked of it.
        results: what results.json holds: the figures of its samples and of what they are compared
            with.
        sampler: draws networks.
    """

    folder: Path
    settings: RunSettings
    results: dict[str, Any]
    sampler: Sampler

    def sample(
        self,
        count: int,
        beta: float | None = None,
        seed: int = 0,
        prefer: Mapping[str, float] | None = None,
        radius: float | None = None,
    ) -> Population:
        """`count` networks as a population: images [P,B,C,H,W] -> logits [P,B,K].

        beta in [0,1]: weight of robustness, for a run trained on a range; by default drawn from it.
        prefer: weights of measures by name, for a run trained on ranges of them. radius: what to
        withstand, for a run trained on a range of epsilon.
        `InputError` for a preference that it was not trained for.
        """
        return self.sampler.sample(count, beta, seed, prefer, radius)

    def __str__(self) -> str:
        return str(run_table(self.results))


def run(
    settings: RunSettings,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    resume: bool = False,
    progress: Progress = SILENT,
) -> Run:
    """Trains in `folder`, measures the samples and what they are compared with, writes all of it.

    Baselines are trained alongside, on a GPU afterwards. With `resume` whatever the folder has
    already is kept and what is missing is done; a report of other sizes is made anew, and stays
    until the new one is there.

    Raises:
        InputError: a folder that holds another run, or a base that does not fit.
        RunError: the training diverges.
        KeyboardInterrupt: it was interrupted, and has saved.
    """
    if settings.images is None:
        settings = settings.on(dataset)
    require_startable(settings, dataset, folder, resume)
    sessions = Sessions(device)
    with locked(folder), nothing_left(folder):
        require_free(folder, settings, resume)  # again: until now another command could be at work
        if resume:
            settings = replace(settings, rungs=RunSettings.load(folder).rungs)
        done = reported(folder, settings)
        settings.save(folder)
        config, wanted = settings.config, settings.baselines and done is None
        recipes = direct_recipes(folder / "baselines", config) if wanted else {}
        phases = progress.split(costs(settings, dataset, recipes, folder, done is not None))
        if recipes or "base" in phases:
            base = prepare_base(config, dataset, device, folder, phases.get("base", SILENT))
            share_base(recipes, config, base)  # it may be one of them
        with trained_alongside(recipes, dataset, device, phases.get("baselines", SILENT)):
            training = config, dataset, folder, device, phases["training"]
            train_generator(*training, settings.rungs, sessions)
        gc.collect()  # parts of a trainer know each other: it would stay beside what is loaded now
        sampler = load_generator(folder, dataset)
        if done is None:
            asked = settings.report, recipes
            done = report(folder, sampler, dataset, *asked, sessions, phases["report"])
            show_end(folder, sampler.config, done)
        (folder / REPORTED).unlink(missing_ok=True)
    return Run(folder, settings, done, sampler)


@contextmanager
def nothing_left(folder: Path) -> Iterator[None]:
    """Empties a folder that was empty where the body refuses its input before it has trained.

    Some is only found by then, such as a measure that cannot take the networks; the same command
    must work once that is mended.
    """
    was_empty = is_empty(folder)
    try:
        yield
    except (InputError, AttackError, TargetError):
        if was_empty and not checkpoint.exists(folder / CHECKPOINT):
            for path in folder.iterdir():
                if path.is_dir():
                    shutil.rmtree(path)
                elif path.name != LOCK:
                    path.unlink()
        raise


def require_startable(settings: RunSettings, dataset: Dataset, folder: Path, resume: bool) -> None:
    """`InputError` where `folder` holds another run, or networks or base cannot be; writes nothing.

    Networks and generator are made for that, since a user's own may fail; as shapes alone where
    that works, since large ones take long.
    """
    require_free(folder, settings, resume)
    require_networks(settings.config.optimisation.population)
    if not require_run_memory(settings, dataset):
        ModelBundle.fresh(settings.config, dataset.info)  # says why
    if not (folder / BASE).exists():  # a run keeps a copy of the network it started from
        require_base(settings.config, dataset.info)


def costs(
    settings: RunSettings,
    dataset: Dataset,
    recipes: Mapping[Path, BaselineConfig],
    folder: Path,
    is_reported: bool,
) -> dict[str, float]:
    """About what each phase costs, in forward passes; a gradient costs three."""
    step, config = settings.config.optimisation, settings.config
    gradients = config.attack_steps + 1
    phases = {"training": 3.0 * gradients * step.length * step.population * step.batch_size}
    if (base := untrained_base(config, folder)) and not checkpoint.exists(folder / CHECKPOINT):
        phases["base"] = cost_left(base, dataset)
    if recipes:
        phases["baselines"] = cost_left(recipes, dataset)
    if not is_reported:
        counts = [settings.report.samples, *[1] * len(recipes)]
        judge = judge_of(config, settings.report)
        whole = sum(report_costs(counts, judge, dataset, settings.report).values())
        phases["report"] = REPORT_SHARE * whole
    return phases


def train_generator(
    config: TrainConfig,
    dataset: Dataset,
    folder: Path,
    device: torch.device,
    progress: Progress,
    rungs: Sequence[float] = (),
    sessions: Sessions | None = None,
) -> None:
    """Trains, or continues, the generator of the run in `folder` to its last step.

    rungs: the shares of its steps after which it is measured (see `rungs`); sessions: of this call,
    which every checkpoint keeps and which then follow those of the last one.
    """
    saved, sessions = folder / CHECKPOINT, sessions or Sessions(device)
    if checkpoint.exists(saved):
        trainer = Trainer(config, dataset, device)
        load = of_settings(config, trainer.load_state_dict)
        sessions.follow(checkpoint.resume(saved, load).get(SESSIONS))  # no view of it is kept
    else:
        base = prepare_base(config, dataset, device, folder)
        trainer = Trainer(config, dataset, device, None if base is None else load_network(base))
        if base is not None:
            trainer.pretrain_value()
    length = trainer.config.optimisation.length
    progress.start(length, trainer.step)
    if trainer.step == length:
        return
    tracker = Tracker(folder, config.flat(), trainer.step, [m.name for m in trainer.measures])
    due = {max(1, round(rung * length)): rung for rung in rungs}

    def sampler() -> Sampler:
        steps = trainer.adversary.attack_steps
        return Sampler(config, dataset.info, trainer.models, steps, dataset)

    def on_step(step: int, metrics: dict[str, float]) -> None:
        if "check/robustness" in metrics:
            show_check(tracker, step, trainer, dataset)
            if config.has_front:
                reached = front_growth.cheap_hypervolume(sampler(), dataset)
                metrics = metrics | {front_growth.NAME: reached}
        if step + 1 in due:
            measure_rung(folder, due[step + 1], sampler(), dataset)
        tracker.log(step, metrics)
        shown = {n: v for n, v in metrics.items() if n.startswith("measured/")}
        text = ", ".join(f"{n.partition('/')[2]} {100 * v:.0f} %" for n, v in shown.items())
        progress.advance(1, text)

    def save(state: dict[str, Any]) -> None:
        checkpoint.save(saved, state | {SESSIONS: sessions.rows(), "config": asdict(config)})

    try:
        train(trainer, save, on_step)
    finally:
        tracker.close()


def of_settings(
    config: TrainConfig, load_state_dict: Callable[[dict[str, Any]], object]
) -> Callable[[dict[str, Any]], object]:
    """What hands a checkpoint over, and refuses by an `InputError` one of other settings.

    A config.json in which a number has changed would else go on to train, and as something else.
    Checkpoints of earlier versions do not tell their settings.
    """

    def load(state: dict[str, Any]) -> None:
        own = TrainConfig.from_tree(state.get("config", asdict(config)), CHECKPOINT)
        if apart := resolved(own).differences(resolved(config)):
            raise InputError(
                f"{CHECKPOINT} is of other settings than {CONFIG} beside it: {'; '.join(apart)}"
            )
        load_state_dict(state)

    return load


def reported(folder: Path, settings: RunSettings) -> dict[str, Any] | None:
    """What results.json holds, if it is there and was made as is asked now."""
    result = read_results(folder)
    asked = {"report": asdict(settings.report), "baselines": settings.baselines}
    same = result is not None and asked == {name: result.get(name) for name in asked}
    return result if same else None


@usual_state()
def load_generator(folder: Path | str, dataset: Dataset | None = None) -> Sampler:
    """The averaged generator at the last checkpoint of a run, on the data set's device.

    dataset: needed for targets with batch norm, whose statistics are measured on training images.
    `InputError`: not a run, or one without a checkpoint.
    """
    if dataset is not None and not isinstance(dataset, Dataset):
        raise InputError("`dataset` must be one that load_dataset gives, not its name")
    folder = expanded(folder)
    settings = RunSettings.load(folder)
    saved = folder / CHECKPOINT
    if not checkpoint.exists(saved):
        raise InputError(f"{folder} has no {CHECKPOINT} yet: let it train, or resume it")
    models = ModelBundle.fresh(settings.config, settings.info)
    state = checkpoint.restore(saved, of_settings(settings.config, models.load_state_dict))
    if dataset is not None:
        models.to(dataset.device)
    sampler = Sampler(settings.config, settings.info, models, state["attack_steps"], dataset)
    doublings = state["doublings"]  # what V was fitted to may have been raised
    sampler.measures = tuple(raised(m, doublings.get(m.name, 0)) for m in sampler.measures)
    return sampler
