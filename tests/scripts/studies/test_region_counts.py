"""The study of regions along lines: what a grid shows, and what was solved for."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from scripts.studies import region_counts
from scripts.studies.region_counts import Points, by_halving, counted, hashed, one_by_one, seen
from targets import build
from tests.targets.test_breakpoints import followed, seeded, small_lenet


def grid(module, count):
    rng = torch.Generator().manual_seed(1)
    start, end = 10 * torch.rand(2, 1, 6, 6, dtype=torch.float64, generator=rng) - 5
    return Points(module.requires_grad_(False), start, end - start, count)


def test_a_pattern_tells_relus_and_places_of_pools():
    """Of one window of four and the ReLU after it."""
    module = nn.Sequential(nn.MaxPool2d(2), nn.ReLU())
    images = torch.tensor([[1, 2, 3, 4], [0, 2, 3, 9], [4, 3, 2, 1], [-1, -2, -3, 0]]).double()
    first, second, third, fourth = hashed(module, images.view(4, 1, 2, 2)).tolist()
    assert first == second
    assert len({first, third, fourth}) == 3


def test_halving_finds_what_every_point_shows():
    points = grid(seeded(small_lenet), 3000)
    changes = by_halving(points)
    assert len(changes) > 5 and torch.equal(changes, one_by_one(points))


@pytest.mark.parametrize("count", [4, 100_000])
def test_what_was_solved_for_is_what_grids_show(count):
    points = grid(seeded(small_lenet), count)
    line = followed(points.module, points.start, points.start + points.way)
    found = counted(points, line, 20_000)
    for row in found.values():
        assert row["odd"] == 0 and row["refined"] == row["crowded"]
        assert row["solved"] >= row["grid"] + row["crowded"] + row["outside"]
        assert (row["solved"] == row["grid"]) == (count > 4)
    assert found["cells"]["solved"] > found["regions"]["solved"] > 1
    assert found["cells"]["crowded"] == 0 or count == 4


def test_the_other_points_between_two():
    points = grid(seeded(small_lenet), 10)
    between = points.between(3, 5)
    assert (between.low, between.high) == pytest.approx((0.35, 0.45))
    assert between.place(2) == pytest.approx(0.4)
    assert {*seen(between)} == {"cells", "regions"}


def test_the_study(tmp_path, written, monkeypatch):
    def untrained(path, *_):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build("small-lenet5", "relu", 10, (1, 28, 28))

    monkeypatch.setattr(region_counts, "trained", untrained)
    config = replace(
        region_counts.QUICK,
        lines=1,
        points=40,
        finer=2,
        whole=1,
        work=tmp_path / "work",
        out=tmp_path / "figures.json",
    )
    region_counts.main(config)
    figures = written(config.out)
    assert figures["whole"] == [True] and len(figures["lines"]) == 1
    for row in figures["lines"]:
        assert row["cells"]["solved"] > row["regions"]["solved"] > 1
        assert row["cells"]["odd"] == 0
