"""Every command from its arguments to its files, on one tiny run."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
import torch

import attacks
import hypergen
from hypergen.cli.main import main
from hypergen.storage.weights import load_network, read_metadata
from tests.hypergen.cli.conftest import TINY


def test_train_writes_what_it_says(trained):
    names = {path.name for path in trained.iterdir()}
    assert {"config.json", "checkpoint.safetensors", "results.json", "scatter.png"} <= names
    assert {"report.html", "samples"} <= names and "baselines" not in names
    assert len(list((trained / "samples").iterdir())) == 2


def test_train_shows_figures_a_verdict_and_what_to_do_next(trained, capsys):
    assert main(["train", "--resume", "--out", str(trained)]) == 0
    shown = capsys.readouterr().out
    assert "2 sample voting" in shown and "No baselines: compared with" in shown
    commands = [line.strip() for line in shown.splitlines() if line.startswith("    hypergen ")]
    assert [command.split()[1] for command in commands] == ["sample", "evaluate", "export"]
    assert all(str(trained) in command for command in commands)


def test_samples_are_drawn_ranked_and_written(trained, capsys):
    shutil.copytree(trained, "mine")
    assert main(["sample", "mine", "--count", "5", "--keep", "2", "--images", "5"]) == 0
    files = sorted(Path("mine", "samples-seed1").iterdir())
    assert [file.name for file in files] == ["sample-0000.safetensors", "sample-0001.safetensors"]
    rows = [read_metadata(file) for file in files]
    assert all(0 <= row["sra"] <= row["pgd"] <= 1 and row["seed"] == 1 for row in rows)
    drawn = hypergen.load_generator(Path("mine")).sample(5, seed=1)
    images = torch.rand(3, 1, 8, 8)
    logits = drawn(images.expand(5, -1, -1, -1, -1))
    for file in files:
        distance = (hypergen.load_network(file)(images) - logits).abs().amax((1, 2))
        assert distance.min() < 1e-5
    assert main(["sample", "mine", "--count", "5"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["sample", "mine", "--count", "5", "--out", "ranked"]) == 0  # by V's estimates
    ranked = [read_metadata(file)["estimated"] for file in sorted(Path("ranked").iterdir())]
    scores = [sum(estimates.values()) for estimates in ranked]  # beta is one half
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)


def test_a_search_judges_and_writes_what_it_found(trained, capsys):
    options = "--candidates 6 --budget 3 --keep 2 --images 5 --out found"
    assert main(["search", str(trained), *options.split()]) == 0
    figures = json.loads(Path("found", "results.json").read_text())
    shown = capsys.readouterr().out
    assert f"hypervolume {figures['hypervolume']['test']:.4f} on test images" in shown
    for row in figures["networks"]:
        assert row["file"] in shown and f"{100 * row['sra']:.1f}" in shown
        assert Path("found", row["file"]).exists()
    assert main(["search", str(trained), *options.split()]) == 2
    assert "not empty" in capsys.readouterr().err


def test_evaluate_writes_what_it_shows(trained, capsys):
    options = "--images 10 --steps 2 --restarts 1 --json figures.json"
    assert main(["evaluate", str(trained), *options.split()]) == 0
    figures = json.loads(Path("figures.json").read_text())
    shown = capsys.readouterr().out
    for row in figures["networks"]:
        assert f"{100 * row['accuracy']:.2f}" in shown
    assert main(["evaluate", str(trained), *options.split()]) == 0  # goes on from there
    again = json.loads(Path("figures.json").read_text())
    assert again | {"sessions": 0} == figures | {"sessions": 0}
    (first,), second = figures["sessions"], again["sessions"]
    assert second[0] == first and len(second) == 2
    typed = shlex.join(["hypergen", "evaluate", trained.name, *options.split()])
    assert [row["command"] for row in second] == 2 * [typed]


def test_a_sample_has_a_card_with_its_command_and_the_hub_s_class_loads_it(trained, capsys):
    pytest.importorskip("huggingface_hub")
    shutil.copytree(trained, "mine")
    file = Path("mine", "samples", "sample-0001.safetensors")
    assert main(["card", str(file)]) == 0
    folder = file.with_suffix("")
    assert capsys.readouterr().out.startswith(f"written to {folder}: ")
    text = (folder / "README.md").read_text()
    (line,) = [line.strip() for line in text.splitlines() if line.startswith("    hypergen train")]
    assert sorted(line.split()) == sorted(f"hypergen {TINY} --out OUT".split())
    images = torch.rand(3, 1, 8, 8)
    model = hypergen.HubModel.from_pretrained(folder)
    assert model(images).equal(hypergen.load_network(file)(images))
    assert main(["evaluate", "mine", "--images", "2", "--steps", "1", "--restarts", "1"]) == 0


def test_a_board_has_a_row_of_whoever_s_network(trained, capsys, monkeypatch):
    brief = lambda threat: attacks.standard(threat, steps=2, queries=2)  # noqa: E731
    monkeypatch.setitem(attacks.ATTACKS, "standard", brief)
    file = trained / "samples" / "sample-0000.safetensors"
    torch.save(load_network(file).state_dict(), "theirs.pt")
    assert main(["board", "add", str(file), "--images", "4"]) == 0
    said = "--target mlp --dataset digits --image-size 8 --epsilon 0.1 --norm linf"
    told = "--images 4 --seconds 12"
    assert main(["board", "add", "theirs.pt", *said.split(), *told.split()]) == 0
    shown = capsys.readouterr().out
    rows = json.loads(Path("board", "board.json").read_text())["rows"]
    ours, theirs = sorted(rows, key=lambda row: row["name"])
    assert [ours[name] for name in ("accuracy", "sra")] == [theirs["accuracy"], theirs["sra"]]
    assert theirs["seconds"] == 12 and theirs["command"] is None
    assert sorted(ours["command"].split()) == sorted(f"hypergen {TINY} --out OUT".split())
    for row in rows:
        assert f"{row['name']}: accuracy {100 * row['accuracy']:.2f} %" in shown


def test_transfer_writes_a_matrix_and_draws_it(trained):
    options = "--images 10 --steps 2 --restarts 1 --json matrix.json --picture matrix.png"
    assert main(["transfer", str(trained), *options.split()]) == 0
    fooling = json.loads(Path("matrix.json").read_text())["fooling"]
    assert [len(row) for row in fooling] == [2, 2]
    assert Path("matrix.png").read_bytes().startswith(b"\x89PNG")


def test_a_baseline_is_trained_written_and_judged(capsys):
    line = "baseline --target mlp --image-size 8 --epochs 1 --out net"
    assert main([*line.split(), "--method", "standard"]) == 0
    assert {path.name for path in Path("net").iterdir()} == {"network.safetensors"}
    assert "accuracy" in capsys.readouterr().out
    assert main(line.split()) == 2
    options = "--images 10 --steps 2 --restarts 1 --json figures.json"
    assert main(["evaluate", "net", *options.split()]) == 0
    assert Path("figures.json").exists()


@pytest.mark.parametrize("format", ["safetensors", "onnx"])
def test_export_writes_files_that_answer_as_the_network_does(format, trained, capsys):
    source = trained / "samples" / "sample-0000.safetensors"
    out = Path(f"net.{format}")
    assert main(["export", str(source), "--format", format, "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    images = torch.rand(3, 1, 8, 8)
    expected = load_network(source)(images)
    if format == "safetensors":
        answer = load_network(out)(images)
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        session = onnxruntime.InferenceSession(out)
        name = session.get_inputs()[0].name
        answer = torch.from_numpy(session.run(None, {name: images.numpy()})[0])
    assert (answer - expected).abs().max() < 1e-4


NET = """
import torch
import hypergen

@hypergen.register_target("my-net")
class MyNet(torch.nn.Module):
    def __init__(self, num_classes, input_shape):
        super().__init__()
        self.layer = torch.nn.Linear(input_shape[1] * input_shape[2], num_classes)

    def forward(self, images):
        return self.layer(images[:, 0].flatten(1))
"""


def test_a_network_of_ones_own_goes_through_and_its_plugin_is_recorded(capsys):
    Path("my_net.py").write_text(NET)
    options = TINY.removeprefix("train --target mlp ")
    line = f"train --target my_net.py:my-net {options} --out run"
    assert main(line.split()) == 0
    (record,) = json.loads(Path("run", "config.json").read_text())["plugins"]
    assert (record["name"], record["source"]) == ("my-net", "my_net.py")
    sample = Path("run", "samples", "sample-0000.safetensors")
    assert read_metadata(sample)["plugins"] == [record]
    options = "--plugin my_net.py --images 5 --steps 2 --restarts 1"
    assert main(["evaluate", "run", *options.split()]) == 0
