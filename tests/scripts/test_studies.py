"""The studies, on as little as they can run on."""

import importlib
import math
import os
import shlex
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import tyro
from torch import nn

import attacks
from hypergen import data
from hypergen.cli import EvaluateArgs, TrainArgs, parse
from hypergen.config import TrainConfig
from hypergen.errors import InputError, RunError
from hypergen.train import Training
from hypergen.weights_file import load_network
from scripts import (
    cells,
    check_cuda,
    front,
    study_activation_distributions,
    study_activations,
    study_exploding_gradients,
    study_generated_activations,
    study_kwta,
)
from scripts.study_exploding_gradients import Way
from targets import outside_dictionary

MNIST_SIZES = {"dataset": "digits", "epochs": 1}


def test_activations(brief, tmp_path, monkeypatch, written):
    config = study_activations.StudyConfig(
        **MNIST_SIZES,
        targets=("mlp",),
        activations=("relu", "kaf-elu"),
        train_images=300,
        images=10,
        sra_images=5,
        restarts=1,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    study_activations.main(config)
    rows = written(config.out)["networks"]
    assert list(rows) == ["mlp-relu", "mlp-kaf-elu"]
    digits = data.load("digits").test
    images, labels = digits.first(len(digits))
    for name, row in rows.items():
        network = load_network(config.work / f"{name}.safetensors")
        outside = outside_dictionary(network, images[: config.images]).values()
        assert row["outside_dictionary"] == pytest.approx(max(outside, default=0))
        right = (network(images).argmax(1) == labels).float()
        assert row["accuracy"] == pytest.approx(float(right.mean()))
        assert row["pgd"] <= float(right[: config.images].mean())
        assert row["sra"] <= float(right[: config.sra_images].mean())
    assert config.out.with_suffix(".png").stat().st_size > 10_000
    # A call killed while judging attacks no image a second time.
    for path in config.work.glob("mlp-*.json"):
        path.unlink()
    monkeypatch.setattr(attacks.Attack, "__call__", None)
    study_activations.main(config)
    again = written(config.out)["networks"]
    for name, row in rows.items():
        assert again[name] | {"seconds": None} == row | {"seconds": None}


def test_kwta(brief, tmp_path, written):
    config = study_kwta.StudyConfig(
        datasets=("digits",),
        targets=("mlp",),
        activations=("relu", "kwta-0.2"),
        starts=("scratch",),
        epochs=1,
        train_images=300,
        images=6,
        schedule=((1, 4),),
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    study_kwta.main(config)
    rows = written(config.out)["networks"]
    assert list(rows) == ["digits-mlp-relu-scratch", "digits-mlp-kwta-0.2-scratch"]
    for row in rows.values():
        assert row["sampling-gradient"] <= row["square"] <= row["clean"]
    assert config.out.with_suffix(".png").stat().st_size > 10_000


def test_exploding_gradients(tmp_path, written, monkeypatch):
    ways = {way.name: way for way in (Way("mlp", "relu"), Way("mlp", "kaf", clip=1.0))}
    monkeypatch.setattr(study_exploding_gradients, "WAYS", ways)
    config = study_exploding_gradients.StudyConfig(
        dataset="digits", steps=3, batch_size=8, work=tmp_path / "runs", out=tmp_path / "f.json"
    )
    study_exploding_gradients.main(config)
    rows = written(config.out)["ways"]
    assert list(rows) == ["mlp relu", "mlp kaf, clipped"]
    for row in rows.values():
        assert row["steps"] == 3 and not row["diverged"] and 0 < row["loss"] < math.inf
        for when in ("first", "worst", "weights"):
            assert list(row[when]) == ["layers.0", "layers.2"] and min(row[when].values()) > 0
        assert max(row["worst"].values()) >= max(row["first"].values()) > 0
    assert (config.work / "mlp-relu").is_dir()  # TensorBoard's events


def test_what_explodes_is_reported(tmp_path):
    config = study_exploding_gradients.StudyConfig(
        dataset="digits", steps=5, batch_size=8, learning_rate=1e30, work=tmp_path
    )
    row = study_exploding_gradients.watched(config, Way("mlp", "relu"), data.load("digits"))
    assert row["diverged"] and row["steps"] < 5 and row["loss"] is None


def test_activation_distributions(tmp_path, written, monkeypatch):
    def outside(network, images):
        layers = outside_dictionary(network, images)  # none but of a KAF
        return {name: 0.25 for name in layers} | dict.fromkeys(list(layers)[1:], 0.1)

    monkeypatch.setattr(study_activation_distributions, "outside_dictionary", outside)
    config = study_activation_distributions.StudyConfig(
        **MNIST_SIZES,
        target="mlp",
        activations=("relu", "kwta-0.2", "kaf"),
        train_images=300,
        images=20,
        steps=3,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    study_activation_distributions.main(config)
    found = written(config.out)["activations"]
    for row in found.values():
        (layer,) = row["layers"].values()
        assert 0.9 < sum(layer["clean"]) <= 1 + 1e-6 and layer["moved"] > 0
    kwta = found["kwta-0.2"]["layers"]["layers.1"]
    assert kwta["zeros"] == pytest.approx(26 / 32, abs=0.02)  # 6 of 32 stay
    assert [row["outside_dictionary"] for row in found.values()] == [0, 0, 0.25]


def test_a_histogram_is_of_shares():
    clean = torch.arange(1000.0).view(10, 100)
    found = study_activation_distributions.histograms(clean, 2 * clean)
    assert found["moved"] == pytest.approx(1)
    assert sum(found["clean"]) == pytest.approx(1, abs=0.01)
    assert sum(found["attacked"]) == pytest.approx(1, abs=0.01)
    assert found["range"][0] == 1 and found["zeros"] == 0.001
    seen = study_activation_distributions.outputs(
        nn.Sequential(nn.Flatten(), nn.ReLU()), "relu", torch.full((2, 1, 2, 2), -1.0)
    )
    assert list(seen) == ["1"] and not seen["1"].any() and seen["1"].shape == (2, 4)


def test_generated_activations(brief, tmp_path, written):
    config = study_generated_activations.StudyConfig(
        **MNIST_SIZES,
        target="mlp",
        activations=("relu", "kwta-0.2"),
        ways=("direct from fbf",),
        steps=2,
        samples=2,
        seeds=1,
        images=5,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    with pytest.raises(InputError, match="direct from pgd"):
        study_generated_activations.main(replace(config, ways=("direct from pgd",)))
    # One activation after the other: what is written is all that is there.
    study_generated_activations.main(replace(config, only=("kwta-0.2",)))
    assert list(written(config.out)["summary"]) == ["kwta-0.2, fbf", "kwta-0.2, direct from fbf"]
    study_generated_activations.main(replace(config, only=("relu",)))
    figures = written(config.out)
    kinds = ["relu, fbf", "relu, direct from fbf", "kwta-0.2, fbf", "kwta-0.2, direct from fbf"]
    assert list(figures["summary"]) == kinds
    assert [row["count"] for row in figures["summary"].values()] == [1, 2, 1, 2]
    assert len(figures["networks"]) == 6
    for row in figures["summary"].values():
        assert list(row["after"].values())[-1] == pytest.approx(row["robustness"])


@pytest.mark.skipif("HYPERGEN_DATA" not in os.environ, reason="HYPERGEN_DATA is not set")
@pytest.mark.parametrize(
    ("study", "fewer"),
    [
        (
            study_activations,
            {"targets": ("vgg", "resnet20"), "activations": ("swish",), "images": 2}
            | {"sra_images": 1, "epochs": 1},
        ),
        (study_kwta, {"activations": ("kwta-0.03",), "images": 4, "schedule": ((1, 4),)}),
        (study_exploding_gradients, {"only": ("resnet20 kaf",), "steps": 2, "batch_size": 4}),
        (study_activation_distributions, {"activations": ("kaf",), "images": 8, "steps": 3}),
        (study_generated_activations, {"activations": ("kaf",), "steps": 2, "images": 2}),
    ],
    ids=lambda value: getattr(value, "__name__", "smallest"),
)
def test_quick_on_real_images(study, fewer, brief, tmp_path, written, monkeypatch):
    """As `--quick` runs it, on less still: CIFAR-10 or MNIST, and the study's own networks."""
    whole = data.load

    def load(name, *args, **options):
        found = whole(name, *args, **options)
        heads = {part: getattr(found, part).head(64) for part in ("train", "val", "test")}
        return replace(found, **heads)

    monkeypatch.setattr(data, "load", load)
    study_kwta.dataset_of.cache_clear()
    places = {"work": tmp_path / "runs", "out": tmp_path / "figures.json"}
    config = replace(study.QUICK, **fewer, **places)
    study.main(config)
    figures = written(config.out)
    assert figures["settings"]["quick"]
    assert config.out.with_suffix(".png").stat().st_size > 10_000


def test_quick_is_no_more_than_a_default(monkeypatch):
    """What else the command line says stands."""
    given = ["study_kwta", "--quick", "--activations", "kwta-0.5", "--epochs", "2"]
    monkeypatch.setattr("sys.argv", given)
    seen = []
    with pytest.raises(SystemExit):
        cells.run(seen.append, study_kwta.StudyConfig, "", study_kwta.QUICK)
    assert seen == [replace(study_kwta.QUICK, activations=("kwta-0.5",), epochs=2)]


def test_front(brief, tmp_path, written):
    config = front.FrontConfig(
        train=TrainConfig(target="mlp", beta="0:1", steps=2, population=2),
        betas=(0.2, 0.8),
        samples=2,
        epochs=1,
        images=5,
        work=tmp_path / "runs",
        out=tmp_path / "figures.json",
    )
    front.main(config)
    figures = written(config.out)
    assert [(row["kind"], row["beta"]) for row in figures["networks"]] == [
        (kind, beta)
        for beta in config.betas
        for kind in ["one generator"] * 2 + ["FBF, each its own", "PGD training, each its own"]
    ]
    assert all(figures["seconds"][kind] > 0 for kind in ("generator", "fbf", "pgd"))


def check_config(folder: Path) -> check_cuda.CheckConfig:
    return check_cuda.CheckConfig(
        **MNIST_SIZES,
        target="mlp",
        normed_dataset="digits",
        normed_target="light-cnn",
        normed_images=128,
        steps=2,
        images=20,
        work=folder / "runs",
        out=folder / "figures.json",
    )


def test_check_cuda(tmp_path, written):
    config = check_config(tmp_path)
    check_cuda.main(config)
    figures = written(config.out)
    if not torch.cuda.is_available():  # the same machine twice
        assert figures["fbf"]["cpu"] == figures["fbf"]["device"]
        assert figures["normed"]["cpu"] == figures["normed"]["device"]
        assert figures["generated"]["logits_apart"] == figures["resumed"]["weights_apart"] == 0
        assert figures["recorded"]["generator"]["losses_apart"] == 0
    checks = ("fbf", "normed", "generated", "resumed", "recorded")
    assert all(figures[check]["within"] for check in checks)


def test_a_run_that_forgets_its_state_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Training, "load_state_dict", lambda training, state: None)
    config = check_config(tmp_path)
    with pytest.raises(RunError, match="not as on the CPU: resumed"):
        check_cuda.main(config)
    assert config.out.exists()
    said = capsys.readouterr().out
    assert "resumed: MISSED" in said and said.count("within the bar") == 4


def on_gpu(folder: Path, *wanted: str, fails: bool = False, **settings: str):
    """What scripts/on_gpu.sh ends with, and the command lines it would give to Python."""
    python, log = folder / "python", folder / "log"
    log.write_text("")
    python.write_text(
        f'#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >> {shlex.quote(str(log))}\n'
        f'printf "\\n" >> {shlex.quote(str(log))}\nexit {int(fails)}\n'
    )
    python.chmod(0o755)
    script = Path(study_kwta.__file__).with_name("on_gpu.sh")
    done = subprocess.run(
        ["sh", str(script), str(folder / "figures"), *wanted],
        env=os.environ | {"PYTHON": str(python)} | settings,
        check=False,
        capture_output=True,
    )
    return done, [line.split("\0")[:-1] for line in log.read_text().splitlines()]


@pytest.mark.parametrize("options", ["", "--quick"])
def test_what_runs_on_a_gpu_can_be_parsed(options, tmp_path):
    done, lines = on_gpu(tmp_path, OPTIONS=options)
    assert done.returncode == 0 and lines[0][:2] == ["-m", "pytest"]
    places, shared = [], {}
    for _, module, *words in lines[1:]:
        main = importlib.import_module(module).main
        config = tyro.cli(main.__annotations__["config"], args=words)
        places.append(config.out)
        assert getattr(config, "quick", bool(options)) == bool(options)
        if hasattr(config, "only"):  # calls that share a folder must have the same settings
            settings = {k: v for k, v in asdict(config).items() if k not in cells.PLACES}
            assert shared.setdefault(config.work, settings) == settings
        if isinstance(config, study_generated_activations.StudyConfig):
            parse(TrainArgs, "train", shlex.split(config.train))
            parse(EvaluateArgs, "evaluate", ["network", *shlex.split(config.judge)])
    assert all(str(place).startswith(str(tmp_path)) for place in places)
    assert len(lines) == (14 if options else 18)


def test_a_part_of_what_runs_on_a_gpu(tmp_path):
    done, lines = on_gpu(tmp_path, "kwta", "first", fails=True)
    assert done.returncode == 1
    assert [line[1] for line in lines] == ["scripts.study_activations", "scripts.study_kwta"]
    assert on_gpu(tmp_path, "kwat")[0].returncode == 2


def test_nothing_is_computed_where_the_checks_fail(tmp_path):
    done, lines = on_gpu(tmp_path, "tests", "check", "kwta", fails=True)
    assert done.returncode == 1
    assert [line[1] for line in lines] == ["pytest", "scripts.check_cuda"]
