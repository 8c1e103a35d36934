"""Tries on every network what was made to fool each other one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks import UNIVERSAL, Attack, AttackError, Threat, Universal
from hypergen.catalog import ATTACKS
from hypergen.errors import InputError, RunError
from hypergen.evaluation.diversity import off_diagonal
from hypergen.evaluation.transfer import MixedPopulation, carried_over, fooling_rates
from hypergen.experiments.evaluate import open_for, targets_of
from hypergen.experiments.evaluate_config import AttackConfig
from hypergen.registry import nearest
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage.network_files import NetworkFile

Rates = Callable[[Sequence[NetworkFile]], tuple[Tensor, Tensor]]
"""Networks to their accuracy [P] and fooling rates [P,P]."""
SoundRates = tuple[Sequence[NetworkFile], dict[str, str], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TransferConfig(AttackConfig):
    """What is made against each network, and how."""

    attack: str = "pgd"
    """any attack of evaluate; or one perturbation for all images of a network, fitted on as many
    training images: universal-deepfool, universal-gradient"""

    def require(self) -> None:
        super().require()
        of_pgd = "steps", "restarts", "step_size"
        given = [name for name in of_pgd if getattr(self, name) != getattr(AttackConfig, name)]
        if given and self.attack != "pgd":
            raise InputError(f"`{given[0]}` is of pgd, which {self.attack} does without")

    def require_attack(self, threat: Threat) -> None:
        known = [*UNIVERSAL, *ATTACKS]
        if self.attack not in UNIVERSAL and self.attack not in ATTACKS:
            hint = nearest(self.attack, known)
            raise InputError(f'unknown attack "{self.attack}"{hint}; known: {", ".join(known)}')
        self.source(threat)

    def source(self, threat: Threat) -> Attack | Universal:
        """What makes the examples."""
        if self.attack in UNIVERSAL:
            return UNIVERSAL[self.attack](threat)
        return self.evaluator(threat).attack


def transfer_files(
    paths: Sequence[Path],
    options: TransferConfig,
    device: torch.device,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """The matrix of fooling rates between the networks of runs, folders and weight files.

    Returns attack, dataset, targets, networks, fooling [P][P], the means white_box, transfer and
    carried_over (see `evaluation.transfer`), and failed: the networks that gave no numbers and are
    left out, with the reason. `RunError` when fewer than two are left.
    """
    judged = open_for(paths, options, device, data_dir)
    if len(judged.networks) < 2:
        raise InputError("transfer tries on each network what fools another: got only one")
    dataset, source = judged.dataset, options.source(judged.threat)
    count, seed = options.images, options.seed

    def rates(networks: Sequence[NetworkFile]) -> tuple[Tensor, Tensor]:
        mixed = MixedPopulation([network.module for network in networks], device)
        return fooling_rates(mixed, source, dataset, count, seed, progress)

    networks, failed, (accuracy, matrix) = without_sick(judged.networks, rates)
    attack = source.describe() | {"images": min(count, len(dataset.test)), "seed": seed}
    if isinstance(source, Universal):
        attack["fitted"] = min(count, len(dataset.train))
    return {
        "attack": attack,
        "dataset": dataset.title,
        "targets": targets_of(networks),
        "networks": [
            {"file": str(network.path), "accuracy": share}
            for network, share in zip(networks, accuracy.tolist(), strict=True)
        ],
        "fooling": matrix.tolist(),
        "white_box": float(matrix.diagonal().mean()),
        "transfer": float(off_diagonal(matrix).mean()),
        "carried_over": carried_over(matrix),
        "failed": failed,
    }


def without_sick(networks: Sequence[NetworkFile], rates: Rates) -> SoundRates:
    """The networks that give numbers, why each other one does not, and the rates of the former.

    `RunError` when fewer than two are left.
    """
    order, failed = [str(network.path) for network in networks], dict[str, str]()
    while True:
        try:
            found = rates(networks)
            return networks, {path: failed[path] for path in order if path in failed}, found
        except AttackError as error:
            sick, reason = sick_networks(error, networks, rates), str(error.args[0])
            if not sick:
                raise
        failed |= {str(network.path): reason for network in sick}
        networks = [network for network in networks if network not in sick]
        if len(networks) < 2:
            raise RunError(f"too few networks give numbers: {reason}: {', '.join(failed)}")


def sick_networks(
    error: AttackError, networks: Sequence[NetworkFile], rates: Rates
) -> list[NetworkFile]:
    """The networks that an error of `rates(networks)` is about; where it names none, all that fail
    alone too."""
    if error.networks:
        return [networks[index] for index in sorted(set(error.networks))]

    def fails(network: NetworkFile) -> bool:
        try:
            rates([network])
        except AttackError:
            return True
        return False

    return [network for network in networks if fails(network)]
