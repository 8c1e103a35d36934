"""`hypergen sweep` for measures of any kind, and `hypergen sample` of what it finds."""

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hypergen.cli.main import main
from hypergen.experiments import trials
from hypergen.storage.weights import load_network, read_metadata
from tests.hypergen.cli.conftest import TINY

PLUGIN = '''
"""How small the weights are: a black box."""

import hypergen


@hypergen.register_measure("smallness")
def smallness(population, images, labels):
    """1 for weights that are all 0; no image is looked at."""
    return 1 / (1 + population.theta.abs().mean(1))
'''
TRAINING = TINY.removeprefix("train ").removesuffix(" --no-baseline")
MEASURES = (
    "--objective value --measure accuracy=0.5 --measure smallness=0.3 --measure int8:bits=3=0.2 "
    "--plugin small.py"
)
NAMES = ["accuracy", "smallness", "int8:bits=3"]


@pytest.fixture
def in_this_process(monkeypatch) -> None:
    """Trials run here, one after the other: a process of its own imports PyTorch for seconds."""

    def ended(command: list[str], **options: object) -> SimpleNamespace:
        status = main(command[command.index("train") :])
        return SimpleNamespace(poll=lambda: status, returncode=status)

    monkeypatch.setattr(
        trials, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": ended})
    )


@pytest.mark.parametrize("own_process", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_sweep_runs_trials_and_shows_the_front(own_process, request, capsys):
    if not own_process:
        request.getfixturevalue("in_this_process")
    line = f"sweep {TRAINING} --trials 1 --vary beta=0:1 --device cpu --sampler random --out sweep"
    assert main(line.split()) == 0
    rows = json.loads(Path("sweep", "results.json").read_text())["trials"]
    assert len(rows) == 1 and rows[0]["kind"] == "front" and Path(rows[0]["run"]).is_dir()
    pictures = {file.name for file in Path("sweep").glob("*.png")}
    assert pictures == {"scatter.png", "hypervolume.png", "parallel.png"}  # one explains nothing
    assert "written to sweep" in capsys.readouterr().out


def smallness(file: Path) -> float:
    weights = torch.cat([each.flatten() for each in load_network(file).parameters()])
    return float(1 / (1 + weights.detach().abs().mean()))


@pytest.mark.usefixtures("in_this_process")
def test_a_measure_of_ones_own_is_swept_and_sampled(capsys):
    Path("small.py").write_text(PLUGIN)
    line = f"sweep {TRAINING} {MEASURES} --trials 2 --device cpu --out sweep"
    assert main(line.split()) == 0
    (head,) = [each for each in capsys.readouterr().out.split("\n") if each.startswith("run  ")]
    weights = ["measure.smallness", "measure.int8:bits=3"]
    for name in [*NAMES, *(f"{name} (val)" for name in NAMES), *weights]:
        assert f"  {name}" in head
    assert "robustness" not in head
    result = json.loads(Path("sweep", "results.json").read_text())
    assert result["measures"] == NAMES and result["varied"] == weights and not result["failed"]
    for row in result["trials"]:
        run = Path(row["run"])
        begun = json.loads((run / "config.json").read_text())["config"]["objective"]["measures"]
        chosen = [float(text.rpartition("=")[2]) for text in begun[1:]]
        assert chosen == pytest.approx([row[name] for name in weights], abs=1e-6)
        summary = json.loads((run / "results.json").read_text())["summary"]["sample"]
        assert [row[name] for name in NAMES] == [summary[name]["mean"] for name in NAMES]
        if row["kind"] == "front":  # a figure of weights is the same on all images
            files = sorted((run / "samples").glob("*.safetensors"))
            known = sum(map(smallness, files)) / len(files)
            assert row["test"]["smallness"] == pytest.approx(row["smallness"], abs=1e-6)
            assert row["test"]["smallness"] == pytest.approx(known, abs=1e-6)
    run = next(row["run"] for row in result["trials"] if row["kind"] == "front")

    line = f"sample {run} --count 3 --keep 1 --images 5 --plugin small.py --device cpu --out best"
    assert main(line.split()) == 0
    said = capsys.readouterr().out
    assert "best 1 of 3 by successive halving" in said
    assert "  smallness  int8:bits=3" in said.split("\n")[0]
    for file in sorted(Path("best").iterdir()):
        assert read_metadata(file)["smallness"] == pytest.approx(smallness(file), abs=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--measure accuracy=1 --measure worst-class=1", "worst-class has no loss to descend"),
        ("--measure accuracy=1 --measure int9=1", 'did you mean "int8"'),
        ("--measure accuracy=1", "name another --measure"),
        ("--measure int8=1", "--vary is needed"),
        ("--vary measure.robustness=0:1", "vary beta, or name measures"),
        ("--measure accuracy=1 --measure int8=1 --vary measure.int9=0:1", 'did you mean "int8"'),
    ],
)
def test_measures_that_cannot_be_swept_are_told_before_anything_is_done(options, words, capsys):
    assert main(f"sweep --target mlp --device cpu --out new {options}".split()) == 2
    told = capsys.readouterr().err.strip()
    assert words in told and "\n" not in told
    assert not Path("new").exists()
