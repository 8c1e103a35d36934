"""What keeps the figures of a long comparison apart, and its command line."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from hypergen import data
from hypergen.baseline import BaselineConfig
from hypergen.errors import InputError, RunError
from scripts import cells, compare_diversity, compare_measurers, compare_value_networks


@dataclass(frozen=True)
class Comparison:
    """Of nothing."""

    size: int = 1
    only: tuple[str, ...] = ()
    work: Path = Path("work")


def test_cells_of_other_settings_are_not_mixed(tmp_path):
    config = Comparison(work=tmp_path / "work")
    assert cells.claim(config.work, config) == {"size": 1}
    # Nothing has been found yet: a mistyped option locks nobody out.
    larger = replace(config, size=2)
    assert cells.claim(config.work, larger) == {"size": 2}
    cells.kept(cells.cell(config.work, "a, b"), lambda: 1)
    with pytest.raises(InputError, match="other settings"):
        cells.claim(config.work, config)
    cells.claim(config.work, replace(larger, only=("a",)))
    assert json.loads((config.work / "a-b.json").read_text()) == 1


def test_what_fails_keeps_nothing_else_from_being_made(tmp_path, capsys):
    def make(name):
        if name == "b":
            raise RunError("training diverged")
        return name.upper()

    config = Comparison(work=tmp_path)
    found, failed = cells.rows(config, "abc", make)
    assert (found, failed) == ({"a": "A", "c": "C"}, ["b"])
    assert capsys.readouterr().err == "b: training diverged\n"
    with pytest.raises(RunError, match=r"lacks what failed: b"):
        cells.publish(tmp_path / "out.json", {}, {"found": found}, failed)
    assert json.loads((tmp_path / "out.json").read_text())["found"] == found
    with pytest.raises(RunError, match="failed: b"):
        cells.rows(replace(config, only=("b",), work=tmp_path / "b"), "abc", make)


def test_a_comparison_ends_like_hypergen(monkeypatch, capsys):
    def main(config):
        raise InputError(f"{config.size} is too few") if config.size else RunError("diverged")

    for size, status, said in (("3", 2, "3 is too few"), ("0", 1, "diverged")):
        monkeypatch.setattr("sys.argv", ["comparison", "--size", size])
        with pytest.raises(SystemExit) as stop:
            cells.run(main, Comparison, None)
        assert stop.value.code == status
        assert capsys.readouterr().err == f"hypergen: {said}\n"


def test_networks_trained_otherwise_are_not_taken_for_these(tmp_path):
    what = ["--dataset", "digits", "--target", "mlp"]
    baseline = ["baseline", *what, "--epochs", "1"]
    train = ["train", *what, "--no-baseline", "--images", "2", "--sra-samples", "0"]
    train += ["--samples", "2", "--population", "2", "--batch-size", "8", "--steps", "2"]
    for command, count, option, other in (
        (baseline, 1, "--epochs", "2"),
        (train, 2, "--beta", "0.7"),
    ):
        folder = tmp_path / command[0]
        files = cells.made(folder, command)
        assert len(files) == count
        times = [file.stat().st_mtime_ns for file in files]
        assert cells.made(folder, command) == files
        assert [file.stat().st_mtime_ns for file in files] == times
        with pytest.raises(InputError, match=rf"other settings.*{option[2:]}: .*not.*{other}"):
            cells.made(folder, [*command, option, other])
    recipe = BaselineConfig(dataset="digits", target="mlp", epochs=1)
    there = data.load("digits"), torch.device("cpu")
    path = tmp_path / "alone.safetensors"
    cells.trained(path, recipe, *there)
    with pytest.raises(InputError, match="seed: 0, not 1"):
        cells.trained(path, replace(recipe, seed=1), *there)


@pytest.mark.parametrize(
    "comparison", [compare_diversity, compare_measurers, compare_value_networks]
)
def test_a_base_that_would_not_be_started_from_is_refused(comparison, tmp_path):
    config = comparison.CompareConfig(work=tmp_path / "work")
    with pytest.raises(InputError, match="from scratch"):
        comparison.main(replace(config, train=replace(config.train, base="fbf")))
    assert not config.work.exists()
