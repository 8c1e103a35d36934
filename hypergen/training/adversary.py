"""What attacks the images of a training step, and whether it tells the truth."""

from dataclasses import replace
from typing import Any

import torch

import attacks
from hypergen.config import TrainConfig
from hypergen.data import DatasetInfo, Split
from hypergen.measures import VALUE_ATTACKS, Robustness, Stage, prepare_batch
from hypergen.measures.attacked import attack_population
from hypergen.training.recipes import recipe_for
from targets import Population

EPSILON_START = 0.6
"""Share of the radius trained against that training begins with."""
MAX_STEPS_FACTOR = 4
"""By how much the steps of attacks are raised at most when the value attack flatters."""
CHECKED_NETWORKS, CHECKED_IMAGES = 2, 40


class Adversary:
    """Makes the attacks of a run's steps: their radius grows, and so may their number of steps.

    Attributes:
        attack_steps: gradient steps of each attack now.
    """

    def __init__(self, config: TrainConfig, info: DatasetInfo):
        self.config = config
        self.attack_steps = config.adversary.attack_steps
        recipe = recipe_for(info, config.target, config.activation)
        self.factor = recipe.radius(1.0, config.adversary.epsilon_factor)

    def threat(self, threat: attacks.Threat, progress: float) -> attacks.Threat:
        """What a threat is after a share `progress` of its warm-up."""
        share = EPSILON_START + (1 - EPSILON_START) * progress
        return replace(threat, epsilon=threat.epsilon * share)

    def enlarged(self, threat: attacks.Threat) -> attacks.Threat:
        """The threat trained against, of the one that is judged at."""
        return replace(threat, epsilon=threat.epsilon * self.factor)

    def value_stage(self, progress: float, seed: int) -> Stage:
        """What prepares the images that V sees and is fitted to."""
        return Stage(lambda threat: self.value_attack(self.enlarged(threat), progress), seed)

    def training_stage(self, progress: float, seed: int) -> Stage:
        """What prepares the images that the generator learns from."""
        if self.config.objective.kind != "direct":
            return self.value_stage(progress, seed)
        return Stage(lambda threat: self.training_attack(threat, progress), seed, to_train=True)

    def value_attack(self, threat: attacks.Threat, progress: float) -> attacks.Attack:
        """What V's attack on a threat is, after a share of its warm-up."""
        make = VALUE_ATTACKS[self.config.adversary.value_attack]
        return make(self.threat(threat, progress), self.attack_steps)

    def training_attack(self, threat: attacks.Threat, progress: float) -> attacks.Attack:
        """What attacks the images whose cross-entropy is descended, given the judged threat."""
        threat = self.threat(self.enlarged(threat), progress)
        if self.attack_steps == 1 and threat.norm != "l1":
            return attacks.RandomFGSM(threat)
        return attacks.PGD(threat, steps=self.attack_steps)

    def raise_attack_steps(self, gap: float) -> None:
        """Doubles the attacks' steps, up to a limit, when the value attack was found to flatter."""
        settings, doubled = self.config.adversary, 2 * self.attack_steps
        limit = MAX_STEPS_FACTOR * settings.attack_steps
        if gap > settings.max_robustness_gap and doubled <= limit:
            self.attack_steps = doubled


@torch.no_grad()
def check_value_attack(
    adversary: Adversary,
    measure: Robustness,
    population: Population,
    split: Split,
    progress: float,
    seed: int,
) -> dict[str, float]:
    """Does the value attack tell the truth? It is compared with four attacks, one gradient-free.

    `attacks.quick` is judge: whole standard attacks took a third of a short run's time. The gap is
    what the value attack says of the same networks, images and threat, less what the judge says;
    the radius is what has been reached so far of the one evaluated at.
    """
    images, labels = split.first(CHECKED_IMAGES)
    threat = adversary.threat(measure.threat, progress)
    masks = attack_population(population, images, labels, attacks.quick(threat), seed)
    robustness = float(masks.robust_accuracy.mean())
    stage = Stage(lambda judged: adversary.value_attack(judged, progress), seed)
    batch = prepare_batch([measure], population, images, labels, stage)
    result: dict[str, Any] = {
        "accuracy": float(masks.accuracy.mean()),
        "robustness": robustness,
        "gap": float(measure(population, batch).mean()) - robustness,
        "attack_steps": adversary.attack_steps,
        "epsilon": threat.epsilon,
    }
    return {f"check/{name}": value for name, value in result.items()}
