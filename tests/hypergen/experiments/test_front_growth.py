"""The hypervolume that a generator of a whole range reaches while it is trained."""

import json

import pytest
import torch

import attacks
from hypergen.config import TrainConfig
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments import front_growth
from hypergen.experiments.front_growth import NAME, cheap_hypervolume, growth
from hypergen.experiments.run_folder import ReportConfig
from hypergen.measures.attacked import attack_population


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, False),
        ({"beta": "0:1"}, True),
        ({"epsilon": (0, 0.1)}, True),
        ({"epsilon": (0, 0.1), "measure": ("int8=1", "robustness=1")}, True),
        ({"measure": ("accuracy=0:1", "robustness=0:1")}, False),
    ],
)
def test_a_range_of_beta_or_epsilon_has_a_front(options, expected):
    assert TrainConfig.of(**options).has_front is expected


def test_it_is_the_hypervolume_of_means_at_several_betas(ranged_run, digits):
    sampler, points = ranged_run.sampler, []
    images, labels = digits.val.first(front_growth.IMAGES)
    z = sampler.models.latent.draw(2, torch.Generator().manual_seed(0))
    for beta in (0.0, 0.2, 0.4, 0.6, 0.8):
        population = sampler.generate(z, torch.full((2,), beta))
        with torch.no_grad():
            logits = population(images.expand(2, *images.shape))
        attack = attacks.PGD(sampler.config.threat, 10)
        left = attack_population(population, images, labels, attack, 0).robust.double().mean()
        points.append([float((logits.argmax(-1) == labels).double().mean()), float(left)])
    before = torch.get_rng_state()
    found = cheap_hypervolume(sampler, digits)
    assert found == pytest.approx(hypervolume(points, 10), abs=0.02)
    assert torch.get_rng_state().equal(before)


def test_the_report_has_what_training_told_and_the_end(tiny, few, trained, tmp_path):
    config = tiny.replace(beta="0:1", steps=10, max_robustness_gap=0.9)
    sizes = ReportConfig(2, 8, 0)
    run = trained(config, tmp_path / "run", sizes=sizes)
    told = run.results["front_growth"]
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    logged = {row["step"]: row[NAME] for row in map(json.loads, lines) if NAME in row}
    assert len(logged) >= 3 and told["steps"] == [*logged, 10]
    assert told["values"][:-1] == [*logged.values()]
    assert told["values"][-1] == cheap_hypervolume(run.sampler, few)
    assert growth(run.folder, run.sampler, few) == told
    assert all(0 <= value <= 1 for value in told["values"])
    other = trained(tiny, tmp_path / "other", sizes=sizes)
    assert "front_growth" not in other.results
