"""What a run shows in TensorBoard beside the numbers of its steps."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attacks
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.measures.attacked import attacked_images
from hypergen.report.image_grid import example_grid
from hypergen.report.scatter import scatter
from hypergen.report.tables import threat_text
from hypergen.runtime.tracker import Tracker
from hypergen.training.trainer import Trainer

EXAMPLES, STEPS = 8, 10
"""Validation images that are shown, and steps of PGD on them."""


def show_check(tracker: Tracker, step: int, trainer: Trainer, dataset: Dataset) -> None:
    """Pictures of a check: the networks measured last, and a sample's answers to a few images."""
    config = trainer.config
    about = f"{dataset.title}, {config.target}, {_threat(config)}, step {step}"
    title = (
        "Networks measured last, and what the value network says of them\n"
        f"{about}; training images, attacked as in training"
    )
    tracker.figure(step, "scores", scatter(trainer.value_fitter.scores(), "robustness", title))
    images, labels = dataset.val.first(EXAMPLES)
    network = trainer.sample(1, config.optimisation.seed)
    attack = attacks.PGD(config.threat, STEPS)
    attacked = attacked_images(network, images, labels, attack, config.optimisation.seed)[0]
    names = dataset.info.class_names
    answers = [
        [names[index] for index in attacks.evaluate(network, each[None])[0].argmax(-1).tolist()]
        for each in (images, attacked)
    ]
    right = [names[index] for index in labels.tolist()]
    clean, changed = (each.cpu().numpy() for each in (images, attacked))
    tracker.image(step, "examples", example_grid(clean, changed, answers, right))


def show_end(folder: Path, config: TrainConfig, result: Mapping[str, Any]) -> None:
    """The final figures of a run, and its settings as what led to those of its samples.

    result: of results.json.
    """
    step = config.optimisation.length
    figures = {
        f"final/{kind}/{name}": own[name]["mean"]
        for kind, own in result["summary"].items()
        for name in dict.fromkeys(["accuracy", "sra", "pgd", *result["measures"]])
        if name in own and name != "robustness"  # which is pgd there
    }
    compared = [name for name in figures if name.startswith("final/sample/")]
    with closing(Tracker(folder, config.flat(), step, result["measures"])) as tracker:
        tracker.finish(step, figures, compared)


def _threat(config: TrainConfig) -> str:
    return threat_text({"norm": config.threat.norm, "epsilon": config.threat.epsilon})
