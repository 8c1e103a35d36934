"""Value attacks side by side, on as little as they can be told by."""

import pytest
import torch

import attacks
from hypergen.config import TrainConfig
from hypergen.measures.robustness import margin
from scripts.compare import value_attacks


@pytest.mark.slow  # a training by each
def test_all_candidates(brief, tmp_path, written, monkeypatch):
    monkeypatch.setattr(value_attacks, "ROUNDS", 1)
    tiny = TrainConfig.of(
        target="mlp", image_size=8, objective="value", population=2, batch_size=8, epsilon=0.02
    )
    config = value_attacks.CompareConfig(
        train=tiny, seconds=0.02, images=8, work=tmp_path / "work", out=tmp_path / "measurers.json"
    )
    value_attacks.main(config)
    figures = written(config.out)["measurers"]
    assert set(figures) == set(value_attacks.CANDIDATES)
    for row in figures.values():
        assert row["steps"] >= 1 and 0 <= row["claimed"] <= 1
        after = list(row["after"].values())
        assert after == sorted(after, reverse=True) and after[-1] == row["sra"]


def test_halves_are_those_of_two_attacks():
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5))
    images = torch.rand(1, 6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    labels, threat = torch.arange(6) % 5, attacks.Threat("linf", 0.1)

    def perturbed(make, some):
        inputs = images[:, some], labels[some], [3]
        return make(threat, 2).perturb(lambda x: network(x.flatten(0, 1))[None], *inputs)

    mixed = perturbed(value_attacks.Halves, slice(None))
    for start, make in enumerate((margin, value_attacks.random_targets)):
        some = slice(start, None, 2)
        assert torch.equal(mixed[:, some], perturbed(make, some))
