"""Five cases of the soak, fifty under -m slow, and the soak itself on what it must find."""

import json
import sys
from random import Random

import pytest
import torch

from hypergen.errors import InputError
from hypergen.storage import checkpoint
from hypergen.storage.weights import save_network
from scripts.bench.soak import __main__ as driver
from scripts.bench.soak import compare, endings
from scripts.bench.soak.__main__ import SoakConfig, counted, ready, tried_by_several
from scripts.bench.soak.case import strange
from scripts.bench.soak.tasks import TASKS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="signals and disks of Linux")
QUICK = "baseline", "board"


def found(tasks, cases) -> dict:
    with ready(tasks) as (soak, kinds, _):
        return counted(tried_by_several(soak, [f"0:{n}" for n in range(cases)], kinds, 1))


def test_no_ending_is_a_fault():
    result = found(QUICK, 5)
    assert not result["faults"] and result["ended"] >= 2, result


@pytest.mark.slow
def test_no_ending_of_any_command_is_a_fault():
    result = found(tuple(TASKS), 50)
    assert not result["faults"] and result["ended"] >= 25, result


@pytest.mark.slow
def test_a_checkpoint_that_nothing_checks_is_found_out(monkeypatch):
    """Had it no digest, a training would go on from other numbers."""
    monkeypatch.setattr(checkpoint, "_digest", lambda structure, tensors: "the same")
    monkeypatch.setattr(endings, "KINDS", ("damage",))
    faults = found(("baseline",), 12)["faults"]
    assert any("differs" in fault["detail"] or "damage" in fault["detail"] for fault in faults)


@pytest.mark.parametrize("config", [SoakConfig(cases=0), SoakConfig(jobs=0)])
def test_what_cannot_be_tried_is_told(config):
    with pytest.raises(InputError, match="at least 1"):
        driver.main(config)


def test_files_differ_by_all_but_times(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, seconds in ((first, 1.5), (second, 2.5)):
        folder.mkdir()
        rows = [{"seconds_trained": seconds, "sra": 0.5}]
        (folder / "results.json").write_text(json.dumps({"rows": rows}))
        header = {"seconds_trained": seconds, "seed": 0}
        save_network(folder / "a.safetensors", {"w": torch.ones(2)}, header)
        (folder / "log.txt").write_text(str(seconds))
    expected = compare.contents(first)
    assert compare.differences(expected, compare.contents(second)) == []
    save_network(second / "a.safetensors", {"w": torch.tensor([1.0, 1.0000001])}, {"seed": 0})
    (second / "results.json").unlink()
    (second / "more.txt").touch()
    (second / ".lock").touch()
    assert compare.differences(expected, compare.contents(second)) == [
        ".lock: new",
        "a.safetensors: other",
        "more.txt: new",
        "results.json: missing",
    ]
    assert compare.left(second) == [".lock"]


def test_a_traceback_is_strange():
    assert not [*strange("hypergen: no space left")]
    assert [*strange("Traceback (most recent call last):\n  ...\nKeyError: 3")]


def test_damage_changes_the_newest_checkpoint_alone(tmp_path):
    assert endings.damage(tmp_path, Random(0)) is None
    path = tmp_path / "checkpoint.safetensors"
    for step in range(2):
        checkpoint.save(path, {"step": step})
    for seed in range(20):
        whole = {each: each.read_bytes() for each in tmp_path.iterdir()}
        assert endings.damage(tmp_path, Random(seed)) == path
        changed = [each for each, before in whole.items() if each.read_bytes() != before]
        assert changed == [path]
        path.write_bytes(whole[path])
