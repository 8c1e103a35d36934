"""The cost of a step on several ranks: measured on as little as it can run on, and told."""

from dataclasses import replace

import pytest

from hypergen import data
from scripts.bench import scaling
from scripts.common import cached_json


@pytest.fixture
def config(tmp_path) -> scaling.ScalingConfig:
    return replace(scaling.QUICK, work=tmp_path / "work", out=tmp_path / "scaling.json")


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits")


def test_terms_measured_on_one_rank_add_up_to_its_step(config, written, monkeypatch):
    scaling.main(config)
    figures = written(config.out)
    (measured,), (row,) = figures["measured"], figures["told"]
    assert row["ranks"] == 1 and row["bytes"] == 0
    assert row["seconds"] == pytest.approx(measured["step"])
    assert 0 < measured["generator"] + measured["value"] < measured["step"]
    # A second call times nothing anew.
    monkeypatch.setattr(scaling, "together", None)
    scaling.main(config)
    assert written(config.out) == figures


def test_a_step_on_more_ranks_is_told_by_its_terms(config):
    config = replace(config, population=8)
    terms = {"step": 10.0, "generator": 1.0, "value": 1.0, "rate": 1000.0, "latency": 0.01}
    size = {"row": 100, "trained": 50}
    one, two, three = (scaling.told(config, count, terms, size) for count in (1, 2, 3))
    assert one == {"ranks": 1, "seconds": 10.0, "bytes": 0, "bytes_all_reduce": 0}
    assert two["bytes"] == 4 * 100 and two["bytes_all_reduce"] == 200
    assert two["seconds"] == pytest.approx(1 + 1 + 4 * 1 + 0.4 + 5 * 0.01)
    assert three["bytes"] == 2 * 3 * 100  # one rank has two networks, and sends as many rows
    assert three["seconds"] == pytest.approx(1 + 1 + 3 * 1 + 0.6 + 5 * 0.01)


def test_sizes_are_those_of_the_networks(config, digits):
    size = scaling.sizes(config, digits)
    hidden = 64 + 1
    assert size["trained"] > hidden * size["weights"]  # the dense head and the base weights
    assert size["row"] == 4 * (size["weights"] + 1 + 2 * 2 * 8) + 8 * 2


def test_without_figures_of_one_rank_nothing_is_told(config, digits, capsys):
    config.work.mkdir()
    cached_json(config.work / "ranks-2.json", lambda: {"ranks": 2, "step": 1.0})
    scaling.tell(config, digits, {})
    assert not config.out.exists()
    assert "measure one rank too" in capsys.readouterr().out
