"""What attacks the images of a training step, and whether it tells the truth."""

from typing import Any

import torch

import attacks
from hypergen.config import TrainConfig
from hypergen.data import DatasetInfo, Split
from hypergen.measures import ROBUSTNESS, VALUE_ATTACKS
from hypergen.measures.attacked import attack_population, attacked_batch
from hypergen.training.recipes import recipe_for
from targets import Population

EPSILON_START = 0.6
"""Share of the radius trained against that training begins with."""
MAX_STEPS_FACTOR = 4
"""By how much the steps of attacks are raised at most when the value attack flatters."""
SRA_CHECK_NETWORKS, SRA_CHECK_IMAGES = 2, 40


class Adversary:
    """Makes the attacks of a run's steps: their radius grows, and so may their number of steps.

    Attributes:
        attack_steps: gradient steps of each attack now.
    """

    def __init__(self, config: TrainConfig, info: DatasetInfo):
        self.config = config
        self.attack_steps = config.adversary.attack_steps
        recipe = recipe_for(info, config.target, config.activation)
        self.radius = recipe.radius(config.threat.epsilon, config.adversary.epsilon_factor)

    def threat(self, epsilon: float, progress: float) -> attacks.Threat:
        """The threat that ends at radius `epsilon`, after a share `progress` of its warm-up."""
        share = EPSILON_START + (1 - EPSILON_START) * progress
        return attacks.Threat(self.config.adversary.norm, epsilon * share)

    def value_attack(self, progress: float) -> attacks.Attack:
        """What attacks the images that V sees and is fitted to."""
        threat = self.threat(self.radius, progress)
        return VALUE_ATTACKS[self.config.adversary.value_attack](threat, self.attack_steps)

    def training_attack(self, progress: float) -> attacks.Attack:
        """What attacks the images that the generator learns from."""
        if self.config.objective.kind != "direct":
            return self.value_attack(progress)
        # Chosen by cross-entropy where that is descended.
        threat = self.threat(self.radius, progress)
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
def check_sra(
    adversary: Adversary, population: Population, split: Split, progress: float, seed: int
) -> dict[str, float]:
    """A small standard robust accuracy: does the value attack tell the truth?

    The gap is what the value attack says of the same networks, images and threat, less the truth;
    the radius is what has been reached so far of the one evaluated at.
    """
    images, labels = split.first(SRA_CHECK_IMAGES)
    config = adversary.config
    threat = adversary.threat(config.threat.epsilon, progress)
    masks = attack_population(population, images, labels, attacks.standard(threat), seed)
    sra = float(masks.robust.float().mean())
    value_attack = VALUE_ATTACKS[config.adversary.value_attack](threat, adversary.attack_steps)
    batch = attacked_batch(population, images, labels, value_attack, seed)
    result: dict[str, Any] = {
        "accuracy": float(masks.clean.float().mean()),
        "sra": sra,
        "robustness_gap": float(ROBUSTNESS(population, batch).mean()) - sra,
        "attack_steps": adversary.attack_steps,
        "epsilon": threat.epsilon,
    }
    return {f"sra_check/{name}": value for name, value in result.items()}
