"""Settings of published protocols, by name."""

from typing import Any, Literal

from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.registry import nearest

PresetName = Literal["thesis"]
PRESETS: dict[PresetName, dict[str, Any]] = {
    # The protocol of Ballarin 2020; the threat's epsilon and the attack's steps are ours.
    "thesis": {
        "dataset": "mnist",
        "objective": "value",
        "value_network": "mlp",
        "generator": "published",
        "base": "standard",
        "steps": 1000,
        "population": 1,
        "value_attack": "pgd",
        "attack_steps": 10,
        "epsilon_factor": 1.0,
        "epsilon_warmup": 0.0,
        "batch_size": 10_000,
        "replay_size": 1,
        "value_steps": 1,
        "num_perturbed": 0,
        "learning_rate": 0.01,
        "weight_decay": 0.005,
        "value_learning_rate": 0.35,
        "value_weight_decay": 0.015,
        "max_robustness_gap": 1.0,
        "schedule": "constant",
        "warmup": 1.0,
        "ema_decay": 0.0,
    },
}


def preset(name: str) -> TrainConfig:
    """The settings of a named protocol; `InputError` for an unknown one."""
    known = {str(each): values for each, values in PRESETS.items()}
    if name not in known:
        raise InputError(
            f'unknown preset "{name}"{nearest(name, known)}; known: {", ".join(known)}'
        )
    return TrainConfig.of(**known[name])
