"""The benchmark of FBF training, and the loop that it is compared with."""

from dataclasses import replace

import pytest
import torch

from attacks.threat import Threat
from hypergen import data
from scripts.bench import fbf


def test_times_of_all_ways(tmp_path, written):
    out = tmp_path / "results" / "fbf.json"
    config = fbf.BenchConfig(dataset="digits", batches=2, turns=2, out=out)
    fbf.main(config)
    figures = written(config.out)
    assert set(figures["ratio"]) == {"one step", "three lengths"}
    times = figures["ms_a_batch"]
    assert len(times) == 3 and all(len(row) == 2 and min(row) > 0 for row in times.values())
    for name, ratio in figures["ratio"].items():
        each = [a / b for a, b in zip(times["plain loop"], times[name], strict=True)]
        assert ratio == pytest.approx(sum(each) / 2, abs=2e-3)


def test_the_plain_loop_makes_the_step_of_the_one_it_is_compared_with(monkeypatch):
    """From the same start, on the one batch that there is, whatever its order."""
    config = fbf.BenchConfig(dataset="digits", batches=1, turns=2)
    dataset = data.load("digits")
    dataset = replace(dataset, train=dataset.train.head(fbf.BATCH))
    ways = (fbf.PlainLoop(config, dataset), fbf.with_one_step(fbf.ours(config, dataset)))
    monkeypatch.setattr(Threat, "random_offset", lambda self, x, draws: torch.full_like(x, 0.1))
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, low, high: self.fill_(0.1))
    gradients = []
    for way in ways:
        way.train_epoch()
        gradients.append([weight.grad for weight in way.module.parameters()])
    for theirs, ours in zip(*gradients, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)
