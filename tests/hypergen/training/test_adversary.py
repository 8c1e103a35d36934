import numpy as np
import pytest

import attacks
from hypergen.config import TrainConfig
from hypergen.data.builtin import INFOS
from hypergen.training.adversary import Adversary
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from hypergen.training.trainer import Trainer


@pytest.mark.parametrize(("name", "radius"), [("mnist", 1.15 * 0.1), ("cifar10", 8 / 255)])
def test_generators_train_at_the_radius_of_networks_trained_directly(name, radius):
    config, info = TrainConfig.of(dataset=name), INFOS[name]
    found = Adversary(config, info).enlarged(config.threat).epsilon
    assert found == pytest.approx(radius)
    assert found == DirectPlan.of(BaselineConfig.of(dataset=name), info, 100).radius
    half = Adversary(config.replace(epsilon_factor=0.5), info).enlarged(config.threat)
    assert half.epsilon == config.threat.epsilon / 2


@pytest.mark.parametrize(("kind", "start"), [("direct", None), ("value", None), ("value", 0.0)])
def test_the_radius_grows_and_is_checked_where_it_is(kind, start, tiny, few, cpu, monkeypatch):
    monkeypatch.setattr(attacks, "quick", lambda threat: attacks.PGD(threat, steps=1))

    def radii(epsilon_warmup):
        config = tiny.replace(objective=kind, epsilon=0.1, epsilon_factor=2)
        if start is not None:
            config = config.replace(epsilon_start=start)
        trainer = Trainer(config.replace(epsilon_warmup=epsilon_warmup), few, cpu)
        for trainer.step in range(6):
            progress = trainer.epsilon_progress
            training = trainer.adversary.training_stage(progress, 0).attack(config.threat)
            value = trainer.adversary.value_stage(progress, 0).attack(config.threat)
            checked = trainer.check_measures()["check/epsilon"]
            yield training.threat.epsilon, value.threat.epsilon, checked

    full = [0.2, 0.2, 0.1]
    first = 0.6 if start is None else start
    grown = np.minimum(1, first + (1 - first) * np.arange(1, 7) / 3)[:, None] * full
    np.testing.assert_allclose(list(radii(0.5)), grown)
    np.testing.assert_allclose(list(radii(0.0)), [full] * 6)


@pytest.mark.parametrize("kind", ["direct", "value"])
def test_a_value_attack_found_to_flatter_gets_more_steps(kind, tiny, few, cpu):
    config = tiny.replace(objective=kind, attack_steps=2, max_robustness_gap=0.1)
    trainer = Trainer(config, few, cpu)
    adversary = trainer.adversary

    def steps() -> int:
        attack = adversary.training_stage(1.0, 0).attack(config.threat)
        assert isinstance(attack, attacks.PGD)
        return attack.steps

    def heed(gap: float) -> None:
        trainer.gap_check.raise_budgets({"check/accuracy/gap": 1, "check/robustness/gap": gap})

    heed(0.1)
    assert steps() == adversary.attack_steps == 2
    for expected in (4, 8, 8):  # four times as many are the limit
        heed(0.11)
        assert steps() == adversary.attack_steps == expected
    fresh = Trainer(config, few, cpu)
    fresh.load_state_dict(trainer.state_dict())
    assert fresh.adversary.attack_steps == 8


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"attack_steps": 1}, attacks.RandomFGSM(attacks.Threat("linf", 0.115))),
        ({"attack_steps": 3}, attacks.PGD(attacks.Threat("linf", 0.115), steps=3)),
        (
            {"attack_steps": 1, "norm": "l1", "epsilon": 4.0, "epsilon_factor": 1.0},
            attacks.PGD(attacks.Threat("l1", 4.0), steps=1),
        ),
        (
            {"attack_steps": 7, "norm": "l1", "epsilon": 4.0, "epsilon_factor": 1.0},
            attacks.APGD(attacks.Threat("l1", 4.0), steps=7),
        ),
        ({"attack_steps": 7}, attacks.PGD(attacks.Threat("linf", 0.115), steps=7)),
        (
            {"attack_steps": 1, "objective": "value", "value_attack": "margin"},
            attacks.PGD(attacks.Threat("linf", 0.115), steps=1, loss="margin"),
        ),
    ],
    ids=str,
)
def test_what_the_generator_learns_from(settings, expected, tiny, digits):
    config = tiny.replace(**settings)
    attack = Adversary(config, digits.info).training_stage(1.0, 0).attack(config.threat)
    assert type(attack) is type(expected) and attack.threat.norm == expected.threat.norm
    assert attack.threat.epsilon == pytest.approx(expected.threat.epsilon)
    assert vars(attack) | {"threat": None} == vars(expected) | {"threat": None}
