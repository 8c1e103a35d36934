"""What a weight file and its place say of how it was made."""

import shutil

import pytest

from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments.made_by import made_by, run_of
from hypergen.experiments.run_folder import RunSettings
from hypergen.storage.weights import load_network, read_metadata, save_network
from hypergen.training.direct_config import BaselineConfig


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
