"""Does a GPU compute what a CPU does? Trains on one, judges on both, carries samples across.

Bars: accuracy of the same weights within 0.1 point, PGD-20 within 0.5, also with batch norm, its
statistics measured on either side; samples of a run trained on the GPU answer alike on the CPU; a
run continued from its checkpoint steps as the one that went on; the first steps replayed as CUDA
graphs are those computed the ordinary way, and how much faster all are. Fails when one is missed.
Without a GPU both sides are the CPU: a rehearsal.

    HYPERGEN_DATA=... python -m scripts.bench.cuda
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from hypergen import data
from hypergen.config import TrainConfig
from hypergen.errors import RunError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.evaluation.sampler import CALIBRATION_IMAGES
from hypergen.runtime.batching import for_all, recalibrated
from hypergen.storage import checkpoint
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.trainer import Trainer
from scripts.common import (
    RESULTS,
    device,
    ensure_same_settings,
    generator,
    now,
    publish,
    run,
    shortened,
)
from targets import Population

ACCURACY_BAR, PGD_BAR = 0.001, 0.005
RELATIVE_BAR = 1e-3
"""For logits, relative to the largest; for weights, to the greatest change of the step."""
COMPARED = 6
"""Losses compared of replayed steps: later on what rounding does grows by the training itself."""


@dataclass(frozen=True)
class CheckConfig:
    """What is trained and compared."""

    dataset: str = "mnist"
    """data set"""
    target: str = "small-lenet5"
    """architecture"""
    normed_dataset: str = "cifar10"
    """data set of the check of batch norm"""
    normed_target: str = "resnet20"
    """its architecture"""
    normed_images: int = 10_000
    """the first of the training part, trained on once"""
    epochs: int = 2
    """of FBF training"""
    steps: int = 40
    """of the generator"""
    images: int = 1000
    """test images under PGD; accuracy is over all"""
    work: Path = Path("runs/check-cuda")
    """folder of the run"""
    out: Path = RESULTS / "check-cuda.json"
    """the figures as JSON"""


def both(name: str) -> dict[str, data.Dataset]:
    """A data set on the CPU and on the device."""
    places = {"cpu": torch.device("cpu"), "device": device()}
    return {side: data.load(name, device=place) for side, place in places.items()}


def fbf(config: CheckConfig, sides: dict[str, data.Dataset]) -> dict[str, Any]:
    """An FBF network trained on the device, judged on both."""
    recipe = BaselineConfig.of(dataset=config.dataset, target=config.target, epochs=config.epochs)
    return evaluated(recipe, sides["device"], sides, config.images)


def normed(config: CheckConfig, _: dict[str, data.Dataset]) -> dict[str, Any]:
    """The same of a network with batch norm, trained briefly."""
    recipe = BaselineConfig.of(dataset=config.normed_dataset, target=config.normed_target, epochs=1)
    sides = both(config.normed_dataset)
    few = shortened(sides["device"], config.normed_images)
    return evaluated(recipe, few, sides, config.images)


def evaluated(
    recipe: BaselineConfig, training: data.Dataset, sides: dict[str, data.Dataset], images: int
) -> dict[str, Any]:
    """The figures of a network trained on the device, on both sides, with statistics of each."""
    population = Population.of([train_direct(DirectTrainer(recipe, training, device()))])
    evaluator = Evaluator(recipe.threat, "pgd", steps=20, restarts=1, images=images)
    found: dict[str, dict[str, Any]] = {}
    for side, dataset in sides.items():
        there = population.to(dataset.device)
        there = recalibrated(there, dataset.calibration_images(CALIBRATION_IMAGES))
        (found[side],) = evaluator.evaluate(there, dataset)
    bars = {"accuracy": ACCURACY_BAR, "pgd": PGD_BAR}
    within = all(abs(found["cpu"][k] - found["device"][k]) <= bar for k, bar in bars.items())
    return {side: {k: row[k] for k in bars} for side, row in found.items()} | {"within": within}


def generated(config: CheckConfig, sides: dict[str, data.Dataset]) -> dict[str, Any]:
    """A run trained and sampled on the device; the samples' answers on both.

    Without checks of SRA, which take minutes and say nothing here.
    """
    folder = config.work / "run"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier call's, or nothing would be trained
    settings = training(config, max_robustness_gap=1.0)
    population = generator(folder, settings, sides["device"]).sample(2, seed=1)
    images, _ = sides["device"].test.first(100)
    with torch.no_grad():
        there = population(for_all(images, population)).cpu()
        here = population.to("cpu")(for_all(images.cpu(), population))
    difference = float((here - there).abs().max() / there.abs().max())
    return {"logits_apart": difference, "within": difference <= RELATIVE_BAR}


def training(config: CheckConfig, **options: Any) -> TrainConfig:
    """What generators are trained by; `options`: settings by short names."""
    settings = {"dataset": config.dataset, "target": config.target, "steps": config.steps}
    return TrainConfig.of(**settings, **options)


def resumed(config: CheckConfig, sides: dict[str, data.Dataset]) -> dict[str, Any]:
    """The next step of a run and of one that was loaded from its checkpoint."""
    settings = training(config)
    one, other = (Trainer(settings, sides["device"], device()) for _ in range(2))
    one.take_step()
    path = config.work / "resumed.safetensors"
    checkpoint.save(path, one.state_dict())
    other.load_state_dict(checkpoint.load(path))

    def weights(trainer: Trainer) -> Tensor:
        return nn.utils.parameters_to_vector(trainer.generator.parameters()).detach().clone()

    before = weights(one)
    for trainer in (one, other):
        trainer.take_step()
    apart, change = weights(one) - weights(other), weights(one) - before
    difference = float(apart.abs().max() / change.abs().max())
    return {"weights_apart": difference, "within": difference <= RELATIVE_BAR}


def recorded(config: CheckConfig, sides: dict[str, data.Dataset]) -> dict[str, Any]:
    """Steps of FBF and of a generator, replayed and not: losses at first, times after a first."""
    dataset = sides["device"]

    def fbf() -> Callable[[], float]:
        recipe = BaselineConfig.of(method="fbf", dataset=config.dataset, target="fbf-cnn")
        trainer = DirectTrainer(recipe, dataset, device())
        attack, batch = trainer.plan.training_attack(1.0), dataset.train.first(100)
        return lambda: float(trainer.take_step(*batch, attack, 1e-3))

    def generator() -> Callable[[], float]:
        settings = {"dataset": config.dataset, "target": config.target, "measure_every": 10_000}
        trainer = Trainer(TrainConfig.of(**settings), dataset, device())
        return lambda: trainer.take_step()["loss"]

    found: dict[str, Any] = {}
    for make in (fbf, generator):
        losses, milliseconds = [], []
        for wanted in ("0", "1"):
            with patch.dict(os.environ, {"HYPERGEN_CUDA_GRAPHS": wanted}):
                step = make()
                first, start = step(), now()
                losses.append([first, *(step() for _ in range(config.steps))])
                milliseconds.append((now() - start) / config.steps * 1000)
        pairs = list(zip(*losses, strict=True))[:COMPARED]
        difference = max(abs(one - other) / abs(one) for one, other in pairs)
        plain, replayed = milliseconds
        times = {"plain_ms": plain, "replayed_ms": replayed}
        found[make.__name__] = {"losses_apart": difference} | times
    return found | {"within": all(f["losses_apart"] <= RELATIVE_BAR for f in found.values())}


def show(found: dict[str, Any]) -> None:
    """The table of all checks."""
    for name, part in found.items():
        print(f"\n{name}: {'within the bar' if part['within'] else 'MISSED'}")
        for title, row in part.items():
            if isinstance(row, dict):
                print(f"  {title:<10}" + "".join(f"{key:>14} {v:<9.4g}" for key, v in row.items()))
            elif title != "within":
                print(f"  {title} {row:.4g}")
    print()


def main(config: CheckConfig) -> None:
    """Checks all, prints what was found and writes it."""
    settings = ensure_same_settings(config.work, config)
    sides = both(config.dataset)
    checks = (fbf, normed, generated, resumed, recorded)
    found = {check.__name__: check(config, sides) for check in checks}
    show(found)
    publish(config.out, settings, found)
    missed = [name for name, part in found.items() if not part["within"]]
    if missed:
        raise RunError(f"not as on the CPU: {', '.join(missed)}")


if __name__ == "__main__":
    run(main, CheckConfig, __doc__)
