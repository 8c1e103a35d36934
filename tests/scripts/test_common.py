"""What keeps the results of a long comparison apart, and its command line."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from hypergen import data
from hypergen.errors import InputError, RunError
from hypergen.training.direct_config import BaselineConfig
from scripts import common
from scripts.compare import diversity, value_attacks, value_networks


@dataclass(frozen=True)
class Comparison:
    """Of nothing."""

    size: int = 1
    only: tuple[str, ...] = ()
    work: Path = Path("work")


def test_results_of_other_settings_are_not_mixed(tmp_path):
    config = Comparison(work=tmp_path / "work")
    assert common.ensure_same_settings(config.work, config) == {"size": 1}
    # Nothing has been found yet: a mistyped option locks nobody out.
    larger = replace(config, size=2)
    assert common.ensure_same_settings(config.work, larger) == {"size": 2}
    common.cached_json(common.cell(config.work, "a, b"), lambda: {"found": 1})
    with pytest.raises(InputError, match="other settings"):
        common.ensure_same_settings(config.work, config)
    common.ensure_same_settings(config.work, replace(larger, only=("a",)))
    assert json.loads((config.work / "a-b.json").read_text()) == {"found": 1}


def test_what_fails_keeps_nothing_else_from_being_made(tmp_path, capsys):
    def make(name):
        if name == "b":
            raise RunError("training diverged")
        return {"letter": name.upper()}

    config = Comparison(work=tmp_path)
    found, failed = common.rows(config, "abc", make)
    assert (found, failed) == ({"a": {"letter": "A"}, "c": {"letter": "C"}}, ["b"])
    assert capsys.readouterr().err == "b: training diverged\n"
    with pytest.raises(RunError, match=r"lacks what failed: b"):
        common.publish(tmp_path / "out.json", {}, {"found": found}, failed)
    assert json.loads((tmp_path / "out.json").read_text())["found"] == found
    with pytest.raises(RunError, match="failed: b"):
        common.rows(replace(config, only=("b",), work=tmp_path / "b"), "abc", make)


def test_a_comparison_ends_like_hypergen(monkeypatch, capsys):
    def main(config):
        raise InputError(f"{config.size} is too few") if config.size else RunError("diverged")

    for size, status, message in (("3", 2, "3 is too few"), ("0", 1, "diverged")):
        monkeypatch.setattr("sys.argv", ["comparison", "--size", size])
        with pytest.raises(SystemExit) as stop:
            common.run(main, Comparison, None)
        assert stop.value.code == status
        assert capsys.readouterr().err == f"hypergen: {message}\n"


def test_networks_trained_otherwise_are_not_taken_for_these(tmp_path):
    what = ["--dataset", "digits", "--image-size", "8", "--target", "mlp"]
    baseline = ["baseline", *what, "--epochs", "1"]
    train = ["train", *what, "--no-baseline", "--images", "2", "--sra-samples", "0"]
    train += ["--samples", "2", "--population", "2", "--batch-size", "8", "--steps", "2"]
    for command, count, option, other in (
        (baseline, 1, "--epochs", "2"),
        (train, 2, "--beta", "0.7"),
    ):
        folder = tmp_path / command[0]
        files = common.train_or_load(folder, command)
        assert len(files) == count
        times = [file.stat().st_mtime_ns for file in files]
        assert common.train_or_load(folder, command) == files
        assert [file.stat().st_mtime_ns for file in files] == times
        with pytest.raises(InputError, match=rf"other settings.*{option[2:]}: .*not.*{other}"):
            common.train_or_load(folder, [*command, option, other])
    recipe = BaselineConfig.of(dataset="digits", image_size=8, target="mlp", epochs=1)
    there = data.load("digits", image_size=8), torch.device("cpu")
    path = tmp_path / "alone.safetensors"
    common.trained(path, recipe, *there)
    with pytest.raises(InputError, match="seed: 0, not 1"):
        common.trained(path, recipe.replace(seed=1), *there)


@pytest.mark.parametrize("comparison", [diversity, value_attacks, value_networks])
def test_a_base_that_would_not_be_started_from_is_refused(comparison, tmp_path):
    config = comparison.CompareConfig(work=tmp_path / "work")
    with pytest.raises(InputError, match="from scratch"):
        comparison.main(replace(config, train=config.train.replace(base="fbf")))
    assert not config.work.exists()


def test_settings_are_told_by_their_short_names():
    settings = common.settings_of(diversity.CompareConfig())
    assert settings["train"]["prior_scale"] == 0.5 and settings["train"]["steps"] == 1000
    assert set(settings) == {"train", "samples", "images", "fbf", "fbf_epochs"}
