"""Successive halving beside the truth, on as little as it can run on."""

import random
import shutil

import pytest

from hypergen.errors import InputError
from hypergen.storage.checkpoint import CHECKPOINT
from scripts.compare import selection


@pytest.mark.slow  # all attacks on six networks, twice
def test_successive_halving_beside_all_attacks(brief, tmp_path, written, brief_run):
    run = brief_run(tmp_path / "run")
    config = selection.SelectionConfig(
        run, count=6, keep=3, images=10, work=tmp_path / "work", out=tmp_path / "halving.json"
    )
    selection.main(config)
    figures = written(config.out)
    # With two finalists for each network wanted all six meet the last attack: nothing can be lost.
    assert figures["places"] == [1, 2, 3] and figures["among_best_twice_as_many"] == 3
    assert len(set(figures["value_network_alone"])) == 3
    assert all(seconds > 0 for seconds in figures["seconds"].values())
    assert len(list(config.work.glob("network-*-4.json"))) == 6
    cells = sorted(config.work.glob("network-*"))
    before = [cell.stat().st_mtime_ns for cell in cells]
    selection.main(config)
    assert written(config.out) == figures
    assert [cell.stat().st_mtime_ns for cell in cells] == before
    # Another generator in that folder has other networks.
    shutil.copy(brief_run(tmp_path / "other", seed=1) / CHECKPOINT, run / CHECKPOINT)
    with pytest.raises(InputError, match="other settings"):
        selection.main(config)


def test_branch_and_bound_finds_the_very_best_without_looking_at_all():
    rng = random.Random(0)
    exact = [rng.randrange(30) / 30 for _ in range(60)]
    slack = [[rng.randrange(5) / 30, rng.randrange(2) / 30, 0] for _ in exact]
    asked = set()

    def bound(network, depth):
        level = selection.DEPTHS.index(depth)
        asked.add((network, depth))
        return exact[network] + sum(slack[network][level:])

    found = selection.branch_and_bound(len(exact), 10, bound)
    places = {
        network: 1 + sum(other > worth for other in exact) for network, worth in enumerate(exact)
    }
    assert found == {network: place for network, place in places.items() if place <= 10}
    assert [*found.values()] == sorted(found.values())
    assert sum(depth == selection.DEPTHS[-1] for _, depth in asked) < len(exact) / 2
