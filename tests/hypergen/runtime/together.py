"""What several ranks do in tests, and one process too; run as a program, a rank that helps."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import attacks
import targets
from hypergen import data
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.evaluation.transfer import MixedPopulation, fooling_rates
from hypergen.experiments.baseline import train_baselines
from hypergen.experiments.registration import register_target
from hypergen.measures.attacked import attack_population
from hypergen.runtime import crew
from hypergen.runtime.ranks import joined
from hypergen.storage.weights import load_network
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.loop import train
from hypergen.training.trainer import Trainer

NORMALISED = "together-normalised"
NAMES = [f"{k}-{t}" for k in ("value", "direct", "hybrid") for t in ("mlp", NORMALISED)]


def register() -> None:
    """Makes a small target with batch norm known."""

    @register_target(NORMALISED)
    class Normalised(nn.Sequential):
        def __init__(self, num_classes: int, input_shape: tuple[int, int, int]):
            layers = nn.Conv2d(input_shape[0], 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()
            super().__init__(*layers, nn.Linear(36, num_classes))


def config(name: str, steps: int) -> TrainConfig:
    """Three networks and one perturbed: two ranks share neither evenly."""
    kind, target = name.split("-", 1)
    return TrainConfig.of(
        objective=kind,
        target=target,
        image_size=8,
        steps=steps,
        population=3,
        batch_size=16,
        num_perturbed=1,
        value_steps=4,
        replay_size=20,
        beta="0:1",
        max_robustness_gap=1.0,
    )


def trained(name: str, steps: int, dataset: Dataset) -> dict[str, Any]:
    """The whole state after so many steps."""
    trainer, states = Trainer(config(name, steps), dataset, dataset.device), []
    train(trainer, states.append)
    return states[-1]


def judged(dataset: Dataset) -> list[torch.Tensor]:
    """Which images survive an attack, of three networks and of these as one."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        made = [targets.build("mlp", input_shape=dataset.input_shape).eval() for _ in range(3)]
    networks = targets.Population.of(made)
    attack = attacks.PGD(attacks.Threat("linf", 0.02), steps=3)
    images, labels = dataset.test.first(120)
    found = [
        attack_population(each, images, labels, attack, 5, batch_size=50)
        for each in (networks, targets.Ensemble(networks))
    ]
    return [mask for masks in found for mask in (masks.clean, masks.robust)]


def transferred(dataset: Dataset) -> list[torch.Tensor]:
    """What fools one of three networks, tried on all; made for each image, and for all images."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        names = "mlp", NORMALISED, "mlp"
        made = [targets.build(name, input_shape=dataset.input_shape).eval() for name in names]
    threat = attacks.Threat("linf", 0.3)
    sources = attacks.PGD(threat, steps=3), attacks.UniversalGradient(threat, passes=1)
    networks = MixedPopulation(made, dataset.device)
    return [rate for each in sources for rate in fooling_rates(networks, each, dataset, 60, 5)]


def directly(dataset: Dataset, folder: Path) -> list[dict[str, Any]]:
    """The tensors of three networks trained one by one, each for an epoch."""
    made = {"method": "standard", "target": "mlp", "image_size": 8, "epochs": 1}
    recipes = {
        folder / f"{seed}.safetensors": BaselineConfig.of(seed=seed, **made) for seed in range(3)
    }
    train_baselines(recipes, dataset, dataset.device)
    assert {path.name for path in folder.glob("*.safetensors")} == {path.name for path in recipes}
    return [dict(load_network(path).state_dict()) for path in recipes]


def all_of(folder: Path, steps: int, names: Sequence[str]) -> dict[str, Any]:
    """What is compared between numbers of ranks; `folder` is for files."""
    folder.mkdir()
    dataset = data.load("digits", image_size=8)
    states = {name: trained(name, steps, dataset) for name in names}
    found = {"judged": judged(dataset), "transferred": transferred(dataset)}
    return {**states, **found, "directly": directly(dataset, folder)}


def start_helpers(count: int) -> list[subprocess.Popen[bytes]]:
    """All ranks but the first of `count`, in this environment but for their number."""
    command = [sys.executable, "-m", __name__]
    environments = [os.environ | {"RANK": str(rank)} for rank in range(1, count)]
    return [subprocess.Popen(command, env=each) for each in environments]


def free_port() -> str:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def lead(folder: Path, steps: int, names: Sequence[str]) -> dict[str, Any]:
    """What the first rank finds, with the others."""
    with joined():
        try:
            return all_of(folder, steps, names)
        finally:
            crew.dismiss()


def help_others() -> None:
    """What any other rank does."""
    torch.set_num_threads(1)
    register()
    with joined():
        crew.serve(data.load("digits", image_size=8))


if __name__ == "__main__":
    help_others()
