"""A run from end to end: what it writes, and whose folder it is."""

import json
import threading
import time

import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import hypergen
import targets
from hypergen.errors import InputError, RunError
from hypergen.experiments import run as experiment
from hypergen.experiments.compare import SAMPLE_SEED
from hypergen.experiments.run import load_generator, run, train_generator
from hypergen.experiments.run_folder import RESULTS, ReportConfig, RunSettings
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.tags import tag_of
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.lock import locked
from hypergen.storage.weights import read_metadata
from hypergen.training.direct_config import BaselineConfig
from tests.hypergen.experiments.runs import steps

# End to end


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("settings", "from_base"),
    [
        (
            {
                "objective": "value",
                "value_network": "mlp",
                "generator": "published",
                "value_attack": "pgd",
            },
            True,
        ),
        ({"objective": "value", "generator": "chunk", "value_network": "probe"}, True),
        (
            {"objective": "hybrid", "value_network": "statistics", "target": "fbf-cnn"},
            False,
        ),
        (
            {"objective": "direct", "generator": "dense", "attack_steps": 1, "beta": "0:1"}
            | {"num_perturbed": 0, "ema_decay": 0.0},
            False,
        ),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ({"objective": "value", "generator": "chunk"}, True),
                ({"objective": "value"}, False),
                ({"objective": "value", "value_network": "probe"}, False),
                ({"objective": "hybrid", "value_network": "statistics"}, False),
                ({"objective": "hybrid", "generator": "chunk", "target": "fbf-cnn"}, False),
                ({"objective": "direct", "num_perturbed": 0, "ema_decay": 0.0}, True),
            )
        ),
    ],
)
def test_a_run_from_end_to_end(settings, from_base, tiny, trained, fresh_base, tmp_path, capfd):
    config, folder = tiny.replace(**settings), tmp_path / "run"
    config = config.replace(base=str(fresh_base) if from_base else None)
    done = trained(config, folder)
    result = done.results

    assert json.loads((folder / RESULTS).read_text()) == json.loads(json.dumps(result))
    assert RunSettings.load(folder) == done.settings and done.settings.config == config
    assert (folder / "scatter.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "scatter.svg").read_bytes().startswith(b"<?xml")
    assert result["targets"] == [config.target]
    assert "</html>" in (folder / "report.html").read_text()
    shown = EventAccumulator(str(folder)).Reload()
    for name, figure in result["summary"]["sample"].items():
        if name in ("accuracy", "pgd"):
            (event,) = shown.Scalars(f"final/sample/{name}")
            assert event.step == 6 and event.value == pytest.approx(figure["mean"])
    assert not any("robustness" in name for name in shown.scalars.Keys() if "final" in name)
    assert steps(folder) == list(range(6))
    assert {"attack", "dataset", "networks", "summary"} <= result.keys()
    assert set(result["summary"]) == {"sample", "start", "2 sample voting"}
    rows = [row for row in result["networks"] if row["kind"] == "sample"]
    assert len(rows) == 2
    for row in rows:
        assert 0 <= row["robustness"] <= 1 and 0 < row["accuracy"] <= 1
        assert all(0 <= figure <= 1 for figure in row["estimated"].values())
        assert len(row["z"]) == (2 if config.generator.kind == "published" else 16)
        assert 0 <= row["beta"] <= 1

    seed = config.optimisation.seed + SAMPLE_SEED
    drawn, _, betas = load_generator(folder).draw(2, seed=seed)
    shape = done.settings.info.input_shape
    images = torch.rand(5, *shape)
    logits = drawn(images.expand(2, -1, -1, -1, -1))
    for index, row in enumerate(rows):
        file = folder / row["file"]
        plain = targets.build(config.target, input_shape=shape)
        plain.load_state_dict(safetensors.torch.load_file(file), strict=True)
        assert (plain.eval()(images) - logits[index]).abs().max() < 1e-5
        metadata = read_metadata(file)
        assert metadata["accuracy"] == row["accuracy"] and metadata["z"] == row["z"]
        assert row["beta"] == pytest.approx(float(betas[index]))
    assert str(done).startswith("kind") or "accuracy" in str(done)
    assert capfd.readouterr() == ("", "")


def test_tensorboard_shows_figures_and_the_scatter(tiny, few, cpu, tmp_path):
    config = tiny.replace(epsilon=1.0, max_robustness_gap=0.9)  # nothing is robust: soon measured
    settings = RunSettings(config, few.info, ReportConfig(), baselines=False)
    settings.save(tmp_path)
    train_generator(config, few, tmp_path, cpu, SILENT)
    shown = EventAccumulator(str(tmp_path)).Reload()
    names = {"measured/accuracy", "estimated/robustness", "check/robustness"}
    checked = ("accuracy/gap", "accuracy/overestimate", "robustness/gap", "robustness/overestimate")
    assert names | {f"check/{name}" for name in checked} <= {*shown.scalars.Keys()}
    pictures = shown.Images("scores")
    assert all(each.encoded_image_string.startswith(b"\x89PNG") for each in pictures)
    examples = shown.Images("examples")
    assert [each.step for each in examples] == [each.step for each in pictures]
    assert shown.SummaryMetadata("examples").summary_description == tag_of("examples").meaning


def test_a_raised_budget_outlives_the_training(tiny, few, cpu, tmp_path):
    """For the value network was fitted to what was measured with it."""
    config = tiny.replace(objective="value", measure=("accuracy=0.5", "square:queries=2=0.5"))
    settings = RunSettings(config, few.info, ReportConfig(), baselines=False)
    settings.save(tmp_path)
    train_generator(config, few, tmp_path, cpu, SILENT)
    state = checkpoint.load(tmp_path / CHECKPOINT)
    assert state["doublings"] == {}
    checkpoint.save(tmp_path / CHECKPOINT, state | {"doublings": {"square:queries=2": 2}})
    (_, square) = load_generator(tmp_path, few).measures
    assert (square.name, vars(square)["queries"]) == ("square:queries=2", 8)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_on_a_gpu_baselines_are_trained_afterwards(kind, tiny, few, tmp_path, monkeypatch):
    """Whatever trains beside another is not recorded as a CUDA graph."""
    files, seen = tmp_path / "run" / "baselines", []

    def fake_training(config, dataset, folder, device, progress, rungs, sessions):
        end = time.monotonic() + 60
        while kind == "cpu" and not any(files.glob("*.safetensors")):
            assert time.monotonic() < end
            time.sleep(0.01)  # they are at work beside it
        seen.append(any(files.glob("*.safetensors")))
        raise RunError("far enough")

    def recipes(folder, config):
        return {folder / "fbf-0.safetensors": BaselineConfig.of(target="mlp", epochs=1)}

    monkeypatch.setattr(experiment, "train_generator", fake_training)
    monkeypatch.setattr(experiment, "direct_recipes", recipes)
    settings = RunSettings(tiny, few.info, ReportConfig(2, 20, 0))
    with pytest.raises(RunError, match="far enough"):
        run(settings, few, tmp_path / "run", torch.device(kind))
    assert seen == [kind == "cpu"]


# Folders


def test_settings_are_there_before_the_first_step(tiny, few, cpu, tmp_path, monkeypatch):
    """So that whatever a kill leaves is continued as it was asked for."""
    found = []

    def look(config, dataset, folder, device, progress, rungs, sessions):
        found.append(RunSettings.load(folder))
        raise RunError("far enough")

    monkeypatch.setattr(experiment, "train_generator", look)
    asked = RunSettings(tiny, few.info, ReportConfig(3, 7, 1, 5), baselines=False)
    with pytest.raises(RunError):
        run(asked, few, tmp_path / "run", cpu)
    assert found == [asked.on(few)]


def test_a_base_that_does_not_fit_leaves_nothing(tiny, trained, saved, tmp_path):
    other = saved(tmp_path / "other.safetensors", "fbf-cnn")
    folder = tmp_path / "run"
    with pytest.raises(InputError, match="`base`: .* holds another network than mlp"):
        trained(tiny.replace(base=str(other)), folder)
    with pytest.raises(InputError, match="nowhere.pt"):
        trained(tiny.replace(base=str(tmp_path / "nowhere.pt")), folder)
    assert not folder.exists()


def test_of_two_runs_into_one_folder_the_second_is_refused(tiny, trained, tmp_path, monkeypatch):
    """Though it had looked before the first began, as while its data load slowly."""
    folder, seed = tmp_path / "run", tiny.replace(seed=7)
    looked, begun = threading.Event(), []
    whole = experiment.require_free

    def slow(*args):
        whole(*args)
        if not looked.is_set():  # between the look and the lock, another run comes and goes
            looked.set()
            begun.append(trained(tiny, folder).results)

    monkeypatch.setattr(experiment, "require_free", slow)
    with pytest.raises(InputError, match="already holds a run"):
        trained(seed, folder)
    assert RunSettings.load(folder).config == tiny
    assert json.loads((folder / RESULTS).read_text()) == json.loads(json.dumps(begun[0]))


def test_a_folder_that_another_works_in_is_left_alone(tmp_path, elsewhere):
    folder = tmp_path / "run"
    folder.mkdir()
    with locked(folder):
        shown = elsewhere(
            "from pathlib import Path\n"
            "from hypergen.storage.lock import locked\n"
            "from hypergen.errors import InputError\n"
            f"try:\n    locked(Path({str(folder)!r})).__enter__()\n"
            "except InputError as error:\n    print(error)\n"
        )
    assert shown == f"another hypergen is at work in {folder}\n"
    assert list(folder.iterdir()) == []


def test_a_run_without_a_checkpoint_has_no_generator(tiny, few, tmp_path):
    RunSettings(tiny, few.info, ReportConfig()).save(tmp_path)
    with pytest.raises(InputError, match=f"has no {CHECKPOINT} yet"):
        load_generator(tmp_path)


def test_what_is_refused_before_it_has_trained_leaves_nothing_in_the_way(trained, tiny, tmp_path):
    whole = []

    @hypergen.register_measure("whole")
    def share(population, images, labels):
        return torch.full([len(population)], 1.0 if whole else 7.0)

    config = tiny.replace(objective="value", measure=("accuracy=1", "whole=1"))
    with pytest.raises(InputError, match="the measure whole must lie in"):
        trained(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    whole.append("mended")
    assert trained(config, tmp_path / "run").results["summary"]["sample"]["whole"]["mean"] == 1


def test_progress_counts_a_base_that_is_trained_on_the_spot(tiny, few, cpu, tmp_path, small_report):
    """Else its time would be taken for that of the generator's first steps."""
    told = []

    class Noted(Progress):
        def __init__(self, name="whole"):
            self.name = name

        def split(self, costs):
            return {name: Noted(name) for name in costs}

        def advance(self, count=1, metrics=""):
            told.append(self.name)

    settings = RunSettings(tiny.replace(base="standard"), few.info, small_report, False)
    run(settings, few, tmp_path / "run", cpu, progress=Noted())
    kinds = list(dict.fromkeys(told))
    assert kinds[0] == "base" and "training" in kinds
    again = []
    (tmp_path / "run" / "results.json").unlink()
    told = again
    run(settings, few, tmp_path / "run", cpu, resume=True, progress=Noted())
    assert again and "base" not in again
