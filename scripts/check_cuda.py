"""Does a GPU compute what a CPU does? Trains on one, judges on both, carries samples across.

Bars: accuracy of the same weights within .1 point, PGD-20 within .5, also with batch norm, its
statistics measured on either side; samples of a run trained on the GPU answer alike on the CPU; a
run continued from its checkpoint steps as the one that went on; the first steps replayed as CUDA
graphs are those computed the ordinary way, and how much faster all are. Fails when one is missed.
Without a GPU both sides are the CPU: a rehearsal.

    HYPERGEN_DATA=... python -m scripts.check_cuda
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

from hypergen import checkpoint, data
from hypergen.baseline import BaselineConfig, BaselineTraining, train_baseline
from hypergen.config import CONFIG, TrainConfig
from hypergen.errors import RunError
from hypergen.evaluate import Judge
from hypergen.measure import recalibrated
from hypergen.sample import CALIBRATION_IMAGES, load_generator
from hypergen.train import Training, train
from scripts.cells import RESULTS, claim, device, now, publish, run, shortened
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
    recipe = BaselineConfig(dataset=config.dataset, target=config.target, epochs=config.epochs)
    return judged(recipe, sides["device"], sides, config.images)


def normed(config: CheckConfig, _: dict[str, data.Dataset]) -> dict[str, Any]:
    """The same of a network with batch norm, trained briefly."""
    recipe = BaselineConfig(dataset=config.normed_dataset, target=config.normed_target, epochs=1)
    sides = both(config.normed_dataset)
    few = shortened(sides["device"], config.normed_images)
    return judged(recipe, few, sides, config.images)


def judged(
    recipe: BaselineConfig, training: data.Dataset, sides: dict[str, data.Dataset], images: int
) -> dict[str, Any]:
    """What a network trained on the device is worth on both, whose statistics it gets there."""
    population = Population.of([train_baseline(recipe, training, device())])
    judge = Judge(recipe.threat, "pgd", steps=20, restarts=1, images=images)
    found: dict[str, dict[str, Any]] = {}
    for side, dataset in sides.items():
        there = population.to(dataset.test.images.device)
        there = recalibrated(there, dataset.calibration_images(CALIBRATION_IMAGES))
        (found[side],) = judge.judge(there, dataset, side)
    apart = {key: abs(found["cpu"][key] - found["device"][key]) for key in ("accuracy", "pgd")}
    within = apart["accuracy"] <= ACCURACY_BAR and apart["pgd"] <= PGD_BAR
    return {side: {k: row[k] for k in apart} for side, row in found.items()} | {"within": within}


def generated(config: CheckConfig, sides: dict[str, data.Dataset]) -> dict[str, Any]:
    """A run trained and sampled on the device; the samples' answers on both.

    Without looks at SRA, which take minutes and say nothing here.
    """
    run = TrainConfig(
        dataset=config.dataset, target=config.target, steps=config.steps, surprise=1.0
    )
    folder = config.work / "run"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier call's, or nothing would be trained
    folder.mkdir(parents=True)
    run.save(folder / CONFIG)
    train(run, sides["device"], folder, device())
    population = load_generator(folder, sides["device"]).sample(2, seed=1)
    images, _ = sides["device"].test.first(100)
    with torch.no_grad():
        there = population(images.expand(2, *images.shape)).cpu()
        here = population.to(torch.device("cpu"))(images.cpu().expand(2, *images.shape))
    apart = float((here - there).abs().max() / there.abs().max())
    return {"logits_apart": apart, "within": apart <= RELATIVE_BAR}


def resumed(config: CheckConfig, sides: dict[str, data.Dataset]) -> dict[str, Any]:
    """The next step of a run and of one that was loaded from its checkpoint."""
    run = TrainConfig(dataset=config.dataset, target=config.target, steps=config.steps)
    one, other = (Training(run, sides["device"], device()) for _ in range(2))
    one.take_step()
    path = config.work / "resumed.safetensors"
    checkpoint.save(path, one.state_dict())
    other.load_state_dict(checkpoint.load(path))

    def weights(training: Training) -> Tensor:
        return nn.utils.parameters_to_vector(training.generator.parameters()).detach().clone()

    before = weights(one)
    for training in (one, other):
        training.take_step()
    apart = float((weights(one) - weights(other)).abs().max() / (weights(one) - before).abs().max())
    return {"weights_apart": apart, "within": apart <= RELATIVE_BAR}


def recorded(config: CheckConfig, sides: dict[str, data.Dataset]) -> dict[str, Any]:
    """Steps of FBF and of a generator, replayed and not: losses at first, times after a first."""
    dataset = sides["device"]

    def fbf() -> Callable[[], float]:
        training = BaselineTraining(
            BaselineConfig("fbf", config.dataset, "fbf-cnn"), dataset, device()
        )
        attack, batch = training.config.training_attack(1.0), dataset.train.first(100)
        return lambda: float(training.take_step(*batch, attack, 1e-3))

    def generator() -> Callable[[], float]:
        run = TrainConfig(dataset=config.dataset, target=config.target, measure_every=10_000)
        training = Training(run, dataset, device())
        return lambda: training.take_step()["loss"]

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
        apart = max(abs(one - other) / abs(one) for one, other in pairs)
        plain, replayed = milliseconds
        found[make.__name__] = {"losses_apart": apart, "plain_ms": plain, "replayed_ms": replayed}
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
    settings = claim(config.work, config)
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
