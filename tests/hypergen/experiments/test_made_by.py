"""What a weight file and its place say of how it was made."""

import shlex
import shutil
from dataclasses import replace

import pytest

from hypergen.cli import sample
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments.baseline import train_baseline
from hypergen.experiments.command_line import making_line
from hypergen.experiments.made_by import COST, cost_of, made_by, run_of
from hypergen.experiments.run_folder import RunSettings
from hypergen.experiments.sample import draw_samples
from hypergen.experiments.sample_config import SampleConfig
from hypergen.runtime.device import device_name
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.weights import load_network, read_metadata, save_network
from hypergen.training.direct_config import BaselineConfig

SAMPLE = "sample-0000.safetensors"


def test_a_network_trained_directly_says_it_itself_wherever_it_lies(saved, tmp_path):
    options = {"method": "pgd", "epsilon": 0.2, "epochs": 3, "seed": 5}
    making = made_by(saved(tmp_path / "net.safetensors", **options))
    assert making is not None and making.command == "baseline"
    assert making.settings == (BaselineConfig.of(target="mlp", image_size=8, **options),)
    assert making.file == "network.safetensors" and not making.flags + making.plugins
    assert making.recipe == "pgd, 3 epochs against linf, epsilon 0.23, seed 5"


def test_a_sample_is_made_by_the_run_that_it_lies_in_and_elsewhere_by_nobody(ranged_run, tmp_path):
    file = ranged_run.folder / "samples" / "sample-0001.safetensors"
    making, asked = made_by(file), RunSettings.load(ranged_run.folder)
    assert making is not None and making.command == "train"
    assert making.settings == (asked.config, asked.report) and making.flags == ("no_baseline",)
    assert making.file == "samples/sample-0001.safetensors"
    assert making.recipe.startswith("sample of a generator: direct, 25 steps, seed 0; beta 0.")
    assert run_of(file) == ranged_run.folder
    copy = shutil.copy(file, tmp_path / "copy.safetensors")
    assert made_by(copy) is None and run_of(copy) is None


def test_what_was_drawn_from_a_run_afterwards_tells_how(ranged_run, few, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ranged_run.folder, folder)
    config = SampleConfig(3, keep=2, images=8, beta="0.4", seed=5)
    draw_samples(ranged_run.sampler, few, folder / "my best", config)
    making = made_by(folder / "my best" / "sample-0001.safetensors")
    assert making is not None and making.sampling == config
    assert making.file == "my best/sample-0001.safetensors"
    start = "1 of the best 2 of 3 samples of a generator: direct, 25 steps, seed 0; beta 0.4"
    assert making.recipe.startswith(start)
    _, _, second = making_line(making).partition(" --out OUT && ")
    words = shlex.split(second)
    settings, own = sample.COMMAND.parse("sample", words[2:])
    assert words[:2] == ["hypergen", "sample"] and settings["sampling"] == config
    assert (str(own.run), str(own.out)) == ("OUT", "OUT/my best")


def test_the_cost_of_a_sample_is_that_of_its_generator_and_what_this_started_from(
    trained, tiny, few, cpu, tmp_path, monkeypatch, hasty
):
    base = train_baseline(
        BaselineConfig.of(target="mlp", epochs=1, image_size=8), few, tmp_path, cpu
    )
    assert cost_of(base.file)["gradient_evaluations"] == 2 * len(few.train)
    run = trained(tiny, tmp_path / "fresh")
    costs = [cost_of(run.folder / "samples" / f"sample-000{each}.safetensors") for each in (0, 1)]
    state = checkpoint.load(run.folder / CHECKPOINT)
    assert 0 < state["seconds_trained"] < 60
    assert costs[0] == costs[1] == {name: state.get(name, device_name(cpu)) for name in COST}
    replace(run.settings, baselines=True).save(run.folder)  # then these took part of the time
    unknown = {"seconds_trained": None, "trained_on": None}
    assert cost_of(run.folder / "samples" / SAMPLE) == costs[0] | unknown
    from_file = trained(tiny.replace(base=str(base.file)), tmp_path / "file")
    assert set(cost_of(from_file.folder / "samples" / SAMPLE).values()) == {None}
    on_the_spot = trained(tiny.replace(base="standard"), tmp_path / "spot")
    state = checkpoint.load(on_the_spot.folder / CHECKPOINT)
    took = read_metadata(on_the_spot.folder / "base.safetensors")["gradient_evaluations"]
    cost = cost_of(on_the_spot.folder / "samples" / SAMPLE)
    assert cost["gradient_evaluations"] == state["gradient_evaluations"] + took > took > 0
    assert cost["seconds_trained"] is None and cost["trained_on"] is None


def test_a_file_beside_the_settings_of_another_run_is_not_taken_for_its_sample(
    ranged_run, few, tmp_path, small_report
):
    (tmp_path / "samples").mkdir()
    path = tmp_path / "samples" / "sample-0000.safetensors"
    shutil.copy(ranged_run.folder / "samples" / "sample-0000.safetensors", path)
    RunSettings(TrainConfig.of(steps=3), few.info, small_report).save(tmp_path)
    assert made_by(path) is None


def test_settings_that_are_none_are_refused(saved, tmp_path):
    path = saved(tmp_path / "net.safetensors")
    metadata = read_metadata(path)
    metadata["config"]["method"] = "witchcraft"
    save_network(path, load_network(path).state_dict(), metadata)
    with pytest.raises(InputError, match='unknown method "witchcraft"'):
        made_by(path)
