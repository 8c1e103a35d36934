"""The study of training on universal perturbations."""

from dataclasses import replace

import torch
from torch import nn

import attacks
from hypergen.analysis.universal import RADIUS, STEP_SIZE
from scripts.studies import universal_training
from targets import Population


def test_one_perturbation_is_carried_from_batch_to_batch():
    """Of a linear network with two classes every step is along the sign of its weights."""
    weight = torch.tensor([1.0, -2.0, 3.0, -4.0])
    linear = nn.Linear(4, 2, bias=False)
    linear.weight.data = torch.stack([weight, -weight])
    population = Population.of([nn.Sequential(nn.Flatten(), linear)])
    carried = universal_training.Carried(attacks.Threat("linf", 0.1))
    images = torch.full((1, 3, 1, 2, 2), 0.5)
    labels = torch.zeros(3, dtype=torch.int64)
    for number in (1, 2):
        found = carried.perturb(population, images, labels, [0])
        expected = 0.5 - number * STEP_SIZE * 0.1 * weight.sign().view(1, 2, 2)
        torch.testing.assert_close(found, expected.expand_as(found))
    for _ in range(10):
        carried.perturb(population, images, labels, [0])
    assert carried.perturbation is not None
    torch.testing.assert_close(carried.perturbation.abs(), torch.full((1, 1, 2, 2), 0.1))


def test_the_study(tmp_path, written):
    config = replace(
        universal_training.QUICK,
        epochs=1,
        fits=2,
        images=20,
        work=tmp_path / "work",
        out=tmp_path / "figures.json",
    )
    universal_training.main(config)
    kinds = written(config.out)["kinds"]
    assert [*kinds] == ["ordinary", "universal", "FBF", f"FBF, {RADIUS:g} epsilon"]
    assert len({tuple(row["accuracy"]) for row in kinds.values()}) > 1
    for row in kinds.values():
        assert {len(values) for values in row.values()} == {2}
        for attacked, worst, own, clean in zip(
            row["attacked"], row["worst"], row["own"], row["accuracy"], strict=True
        ):
            assert 0 <= attacked <= clean and worst <= own <= 1
