"""`hypergen train`: presets, interruption, resumption, and damaged folders."""

import json
import shutil
from pathlib import Path

import pytest

from hypergen.cli import train
from hypergen.cli.main import main
from hypergen.config import TrainConfig
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.presets import PRESETS


def test_a_preset_gives_way_to_what_is_said():
    arguments = ["--preset", "thesis", "--steps", "7", "--beta", "0.25"]
    config = train.COMMAND.parse("train", arguments)[0]["training"]
    assert config == TrainConfig.of(**PRESETS["thesis"] | {"steps": 7, "beta": "0.25"})


def test_a_run_to_resume_gives_way_to_nothing_else(digits):
    """What is said again of it is looked at beside its own settings, not beside the defaults."""
    saved = TrainConfig.of(norm="l2", epsilon=1.5, steps=7, grey=True)
    Path("run").mkdir()
    RunSettings(saved, digits.info, ReportConfig(samples=3)).save(Path("run"))
    for line in (
        "--resume --out run",
        "--resume --out run --norm l2",
        "--norm l2 --resume --out=run",
        "--resume --out run --grey",
    ):
        settings, own = train.COMMAND.parse("train", line.split())
        assert settings["training"] == saved and settings["report"].samples == 3
        assert own.resume and own.out == Path("run")


def test_measures_said_again_of_a_run_to_resume_are_not_added_to_its_own(digits):
    saved = TrainConfig.of(objective="value", measure=("accuracy=0.5", "int8:bits=4=0.5"))
    Path("run").mkdir()
    RunSettings(saved, digits.info, ReportConfig()).save(Path("run"))
    for said in (saved.objective.measures, ("accuracy=1",), ()):
        words = [word for text in said for word in ("--measure", text)]
        settings, _ = train.COMMAND.parse("train", ["--resume", "--out", "run", *words])
        assert settings["training"].objective.measures == (said or saved.objective.measures)


def test_ctrl_c_is_status_130_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("hypergen.experiments.run.train", interrupted)
    out = tmp_path / "run"
    assert main(["train", "--out", str(out), "--samples", "3", "--no-baseline"]) == 130
    shown = capsys.readouterr()
    assert shown.err.endswith(
        f"hypergen: interrupted; continue by hypergen train --resume --out {out}\n"
    )
    assert shown.out == f"run folder: {out}\n"  # at the start, for it may be a dated one
    # What was asked of the report is not forgotten either.
    for again in ([], ["--no-baseline"]):
        assert main(["train", "--resume", "--out", str(out), *again]) == 130
        kept = RunSettings.load(out)
        assert kept.report.samples == 3 and not kept.baselines


@pytest.fixture
def mine(trained) -> Path:
    """A run of one's own to damage."""
    shutil.copytree(trained, "mine")
    return Path("mine")


def resumed(capsys) -> str:
    capsys.readouterr()
    assert main(["train", "--resume", "--out", "mine"]) == 2
    return capsys.readouterr().err


def test_damaged_results_are_one_line(mine, capsys):
    results = mine / "results.json"
    results.write_text(results.read_text()[:100])
    said = resumed(capsys)
    assert said.startswith("hypergen: mine/results.json is damaged (") and said.count("\n") == 1
    results.write_text('{"networks": []}')
    said = resumed(capsys)
    assert said.startswith("hypergen: mine/results.json is no report") and said.count("\n") == 1


def test_a_checkpoint_of_another_training_is_one_line(mine, capsys):
    (mine / "results.json").unlink()
    config = mine / "config.json"
    tree = json.loads(config.read_text())
    tree["config"]["generator"]["latent_size"] = 7
    config.write_text(json.dumps(tree))
    expected = (
        "hypergen: checkpoint.safetensors is of other settings than config.json beside it: "
        "latent_size: 16, not 7\n"
    )
    assert resumed(capsys).endswith(expected)
    assert main(["sample", "mine", "--count", "1"]) == 2
    assert capsys.readouterr().err.endswith(expected)


def test_a_run_that_is_done_is_not_done_again(mine, capsys):
    before = {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()}
    assert main(["train", "--resume", "--out", "mine"]) == 0
    assert "written to mine" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in mine.rglob("*") if path.is_file()} == before
