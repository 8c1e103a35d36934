"""Boards: what a row says, what it costs nothing to know, and what is refused."""

import hashlib
import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import attacks
import targets
from hypergen.cli import baseline, sample, train
from hypergen.data import DatasetInfo
from hypergen.errors import InputError
from hypergen.experiments import board as boards
from hypergen.experiments.baseline import train_baseline
from hypergen.experiments.board import BOARD, PAGE, BoardConfig, add_to_board, read_board
from hypergen.experiments.sample import draw_samples
from hypergen.experiments.sample_config import SampleConfig
from hypergen.report.board import board_page
from hypergen.report.intervals import interval
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.training.direct_config import BaselineConfig, DirectPlan

SHORT = BaselineConfig.of(target="mlp", epochs=1)
FEW = BoardConfig(images=5)


@pytest.fixture(autouse=True)
def _brief(monkeypatch):
    """The standard attacks in a few steps."""
    brief = lambda threat: attacks.standard(threat, steps=2, queries=2)  # noqa: E731
    monkeypatch.setitem(attacks.ATTACKS, "standard", brief)


@pytest.fixture
def network(few, cpu, tmp_path):
    """A network that was trained for an epoch."""
    return train_baseline(SHORT, few, tmp_path / "net", cpu)


def test_a_row_tells_figures_cost_and_command(network, few, cpu, tmp_path):
    row = add_to_board(tmp_path / "board", network.file, FEW, cpu)
    assert read_board(tmp_path / "board") == [row]
    assert row["accuracy"] == network.accuracy and row["test_images"] == 500
    assert row["interval"] == interval(row["sra"], 5) and row["images"] == 5
    assert row["sra"] == min(row["after"].values())
    assert row["weights"] == targets.WeightLayout.of(network.network).size
    assert row["gradient_evaluations"] == 2 * len(few.train) and 0 < row["seconds"] < 60
    assert row["sha256"] == hashlib.sha256(network.file.read_bytes()).hexdigest()
    assert (row["name"], row["file"]) == ("network", network.file.name)
    assert row["command"] == "hypergen baseline --target mlp --epochs 1 --out OUT"
    page = (tmp_path / "board" / PAGE).read_text()
    shown = f"| {100 * row['accuracy']:.2f} | {100 * row['sra']:.1f} |"
    assert "## digits, linf, epsilon 0.1" in page and shown in page
    assert f"    {row['command']}" in page


def test_the_same_network_is_replaced_and_another_of_its_name_refused(network, cpu, tmp_path, few):
    board = tmp_path / "board"
    add_to_board(board, network.file, FEW, cpu)
    add_to_board(board, network.file, replace(FEW, images=6), cpu)
    (row,) = read_board(board)
    assert row["images"] == 6
    add_to_board(board, network.file, replace(FEW, epsilon=0.3), cpu)  # another threat
    other = train_baseline(SHORT.replace(seed=1), few, tmp_path / "other", cpu)
    with pytest.raises(InputError, match='has another network "network"; choose a `name`'):
        add_to_board(board, other.file, FEW, cpu)
    add_to_board(board, other.file, replace(FEW, name="other", epsilon=0.3), cpu)
    assert [row["epsilon"] for row in read_board(board)] == [0.1, 0.3, 0.3]
    below = read_board(board)[1:]
    assert below[0]["sra"] >= below[1]["sra"]


def test_of_an_external_network_is_known_what_was_said(cpu, tmp_path):
    torch.save(targets.build("mlp").state_dict(), tmp_path / "net.pt")
    said = {"recipe": "by hand | `so`", "command": "python train.py", "seconds": 3.0}
    config = replace(FEW, target="mlp", dataset="digits", norm="linf", epsilon=0.1, **said)
    row = add_to_board(tmp_path / "board", tmp_path / "net.pt", config, cpu)
    assert {name: row[name] for name in said} == said
    assert row["gradient_evaluations"] is None and row["trained_on"] is None
    lines = (tmp_path / "board" / PAGE).read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("| net: mlp, relu |")]
    assert line.endswith("| - | 3 | by hand \\| \\`so\\` |")


def test_the_row_of_a_sample_tells_the_cost_of_its_generator(trained, tiny, few, cpu, tmp_path):
    run = trained(tiny, tmp_path / "run")
    draw_samples(run.sampler, few, tmp_path / "run" / "best", SampleConfig(2, keep=1, images=5))
    file = tmp_path / "run" / "best" / "sample-0000.safetensors"
    row = add_to_board(tmp_path / "board", file, FEW, cpu)
    state = checkpoint.load(run.folder / CHECKPOINT)
    for name, known in (("seconds", "seconds_trained"), ("gradient_evaluations",) * 2):
        assert row[name] == state[known] > 0
    assert row["recipe"].startswith("the best of 2 samples of a generator: direct, 6 steps, seed 0")
    second = "hypergen sample OUT --count 2 --keep 1 --images 5 --out OUT/best"
    assert row["command"].endswith(f" --out OUT && {second}")
    assert row["file"] == "best/sample-0000.safetensors"


def test_large_networks_are_refused_before_they_are_attacked(saved, cpu, tmp_path, monkeypatch):
    path = saved(tmp_path / "net.safetensors")
    monkeypatch.setattr(boards, "MAX_WEIGHTS", 1000)
    monkeypatch.setattr(boards, "evaluate", None)
    with pytest.raises(InputError, match=r"has [\d,]+ weights; the board is of small networks"):
        add_to_board(tmp_path / "board", path, FEW, cpu)


def test_what_is_no_single_network_and_no_board_is_refused(saved, cpu, tmp_path):
    folder = tmp_path / "nets"
    folder.mkdir()
    for name in "ab":
        path = saved(folder / f"{name}.safetensors")
    with pytest.raises(InputError, match="holds 2 networks; a row is of one"):
        add_to_board(tmp_path, folder, FEW, cpu)
    with pytest.raises(InputError, match="`recipe` must be one line"):
        replace(FEW, recipe="a\nb")
    add_to_board(tmp_path, path, FEW, cpu)
    (row,) = read_board(tmp_path)
    for damaged in ({"rows": 3}, {"rows": [{}]}, {"rows": [row | {"sra": "high"}]}):
        (tmp_path / BOARD).write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=BOARD):
            add_to_board(tmp_path, path, FEW, cpu)


PUBLISHED = Path(__file__).parents[3] / "docs" / "board"
ROWS = read_board(PUBLISHED)
TRAINING_IMAGES = {"mnist": 54_000, "fashion-mnist": 54_000, "cifar10": 45_000}


def asked(command: str) -> list[tuple[str, Any, Any]]:
    """What the commands of a row do, by name, as they read it: settings, and the command's own."""
    found = []
    for line in command.split(" && "):
        program, name, *words = shlex.split(line)
        assert program == "hypergen"
        parser = {"baseline": baseline, "train": train, "sample": sample}[name].COMMAND
        settings, own = parser.parse(name, words)
        found.append((name, settings["sampling" if name == "sample" else "training"], own))
    return found


def test_the_published_page_is_that_of_its_rows():
    assert len(ROWS) >= 12 and (PUBLISHED / PAGE).read_text() == board_page(ROWS)
    assert all(row["dataset"] in TRAINING_IMAGES for row in ROWS)
    for row in ROWS:
        assert row["weights"] <= boards.MAX_WEIGHTS and row["command"] is not None
        assert row["interval"] == pytest.approx(interval(row["sra"], row["images"]))
        assert row["interval"][0] <= row["sra"] <= row["interval"][1]
        assert row["sra"] == min(row["after"].values()) <= row["accuracy"] + 0.05


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['dataset']}-{row['name']}")
def test_the_command_of_a_published_row_makes_such_a_row(row, few, cpu, tmp_path, trained):
    """At a tiny size: on digits, another target, an epoch or a few steps; all else as it says."""
    (name, config, _), *drawing = asked(row["command"])
    tiny: dict[str, Any] = {"dataset": "digits", "target": "mlp"}
    if name == "baseline":
        assert isinstance(config, BaselineConfig)
        info = DatasetInfo(row["dataset"], (1, 28, 28), tuple("0123456789"))
        cost = DirectPlan.of(config, info, TRAINING_IMAGES[row["dataset"]]).gradient_evaluations
        assert row["gradient_evaluations"] in (cost, None)
        config = config.replace(**tiny, epochs=1)
        file = train_baseline(config, few, tmp_path / "OUT", cpu).file
    else:
        config = config.replace(**tiny, steps=2, population=2, batch_size=8)
        run = trained(config, tmp_path / "OUT")
        for place, (_, sampling, own) in enumerate(drawing):
            small = sampling.replace(count=2, images=5)
            drawing[place] = "sample", small, own
            draw_samples(run.sampler, few, tmp_path / own.out, small)
        file = tmp_path / "OUT" / row["file"]
        assert row["gradient_evaluations"] is not None
    made = add_to_board(tmp_path, file, replace(FEW, name="x"), cpu)
    assert made.keys() == row.keys()
    again = asked(made["command"])
    assert again[0][:2] == (name, config) and again[1:] == drawing
    assert row["file"] in (made["file"], None)
