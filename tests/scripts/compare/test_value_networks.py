"""Value networks side by side, on as little as they can be told by."""

import pytest
import torch

import attacks
from hypergen import data
from hypergen.config import TrainConfig
from hypergen.measures.attacked import attack_population
from hypergen.models.bundle import fresh_target
from hypergen.storage import checkpoint
from scripts.compare import value_networks
from scripts.compare.gallery import CompareConfig, Group
from targets import Population


@pytest.mark.slow
def test_all_kinds_answer_for_all_groups(brief, tmp_path, written):
    tiny = TrainConfig.of(target="mlp", steps=8, population=2, batch_size=8, epsilon=0.02)
    config = CompareConfig(
        train=tiny,
        ages=2,
        samples=3,
        fbf=1,
        epochs=(1, 3),
        images=20,
        seen=20,
        steps=20,
        work=tmp_path / "work",
        out=tmp_path / "values.json",
    )
    value_networks.main(config)
    figures = written(config.out)
    assert figures["networks"] == {f"run {i}": 6 for i in range(4)} | {"fbf": 4, "fbf + noise": 30}
    assert figures["fitted"] == 10 and figures["cost"]["ratio"] > 0
    for kind, row in figures["value_networks"].items():
        assert all(("uncertainty" in group) == ("ensemble" in kind) for group in row.values())
    # What estimates are held against: accuracy over all images, and what survives every attack.
    group = Group(**checkpoint.load(config.work / "fbf.safetensors"))
    digits = data.load("digits")
    population = Population(fresh_target("mlp", "relu", digits.info), group.theta)
    clean = attack_population(population, *digits.test.first(len(digits.test)), None, 0)
    torch.testing.assert_close(group.figures[:, 0], clean.accuracy)
    standard, some = attacks.build("standard", tiny.threat), digits.test.first(config.images)
    masks = attack_population(population, *some, standard, 0)
    assert list(masks.after)[-1] == "square"
    torch.testing.assert_close(group.figures[:, 2], masks.robust_accuracy)
