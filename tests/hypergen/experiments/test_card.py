"""Cards and folders for the Hugging Face hub: what is told, what loads, what is missing."""

import json
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

import hypergen
import targets
from hypergen.errors import InputError
from hypergen.experiments.card import write_card
from hypergen.experiments.run_folder import RESULTS
from hypergen.storage.weights import load_network, read_metadata, save_network

huggingface_hub = pytest.importorskip("huggingface_hub")


@pytest.fixture
def sample(ranged_run) -> Path:
    """A sample in the folder of its run, which has results."""
    return ranged_run.folder / "samples" / "sample-0001.safetensors"


def test_the_hub_s_class_and_plain_pytorch_load_the_very_network(sample, ranged_run, tmp_path, few):
    folder = write_card(sample, tmp_path / "card")
    assert {path.name for path in folder.iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }
    images, _ = few.test.first(20)
    expected = load_network(sample)(images)
    model = hypergen.HubModel.from_pretrained(folder)
    assert not model.training and model(images).equal(expected)
    drawn = ranged_run.sample(2, seed=read_metadata(sample)["seed"])
    torch.testing.assert_close(drawn[1](images), expected, rtol=1e-5, atol=1e-5)
    plain = targets.build("mlp", input_shape=few.input_shape)
    plain.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"), strict=True)
    assert plain.eval()(images).equal(expected)
    assert load_network(folder / "model.safetensors")(images).equal(expected)


def test_what_the_hub_s_own_class_saves_is_loaded_again(tmp_path, few):
    images, _ = few.test.first(5)
    model = hypergen.HubModel("resnet20", "swish", 10, few.input_shape).eval()
    model.save_pretrained(tmp_path)
    again = hypergen.HubModel.from_pretrained(tmp_path)
    assert again(images).equal(model(images))
    with pytest.raises(InputError, match="unknown target"):
        hypergen.HubModel("resnet9000", "relu", 10, (1, 28, 28))


def test_the_card_has_the_figures_of_the_run_and_no_others(sample, ranged_run, tmp_path):
    text = (write_card(sample, tmp_path / "card", "mit") / "README.md").read_text()
    head = huggingface_hub.ModelCard(text).data
    assert (head.license, head.library_name, head.pipeline_tag) == (
        "mit",
        "hypergen",
        "image-classification",
    )
    assert head.datasets is None and head.model_name == "mlp-digits-sample-0001"
    results = json.loads((ranged_run.folder / RESULTS).read_text())
    (row,) = [r for r in results["networks"] if r.get("file") == "samples/sample-0001.safetensors"]
    assert [each.metric_value for each in head.eval_results] == [row["accuracy"], row["pgd"]]
    assert {each.dataset_name for each in head.eval_results} == {"digits"}
    pgd = f"| robust accuracy under PGD (linf, epsilon 0.1) | {100 * row['pgd']:.2f} |"
    (line,) = [line for line in text.splitlines() if line.startswith(pgd)]
    assert line.endswith(f"| {results['attack']['images']} |")
    assert "Its standard robust accuracy was not measured" in text
    assert "sample of a generator: direct, 25 steps, seed 0" in text


def test_what_nobody_wrote_down_is_said_to_be_missing(sample, tmp_path):
    copy = tmp_path / "copy.safetensors"
    metadata = read_metadata(sample)
    unknown = {name: metadata[name] for name in metadata if name not in ("attack", "version")}
    hostile = {"accuracy": "very good", "pgd": 0.25, "sra": 7.0, "class_names": ["<script>|"] * 10}
    save_network(copy, load_network(sample).state_dict(), unknown | hostile)
    text = (write_card(copy, tmp_path / "card") / "README.md").read_text()
    head = huggingface_hub.ModelCard(text).data
    assert head.license == "unknown"
    assert [each.metric_value for each in head.eval_results] == [0.25]
    assert "| robust accuracy under PGD | 25.00 | not known | not known |" in text
    assert text.count("Not written down.") == 3  # training, version, command
    assert "<script>" not in text and "&lt;script&gt;\\|" in text


def test_a_network_trained_directly_tells_its_command(saved, tmp_path):
    path = saved(tmp_path / "net.safetensors", epochs=2)
    folder = write_card(path, tmp_path / "card")
    text = (folder / "README.md").read_text()
    made = "hypergen baseline --image-size 8 --target mlp --epochs 2 --out OUT"
    assert f"    {made}\n\nThe network is then OUT/network.safetensors." in text
    assert "hypergen evaluate FILE --attack standard" in text  # of figures there are none
    assert huggingface_hub.ModelCard(text).data.eval_results is None


def test_what_is_no_weight_file_or_no_free_folder_is_refused(saved, tmp_path):
    path = saved(tmp_path / "net.safetensors")
    folder = write_card(path, tmp_path / "card")
    with pytest.raises(InputError, match="is not empty"):
        write_card(path, folder)
    torch.save(load_network(path).state_dict(), tmp_path / "net.pt")
    with pytest.raises(InputError, match="net.pt"):
        write_card(tmp_path / "net.pt", tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_without_the_extra_one_line_names_it(saved, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "hypergen.storage.hub", raising=False)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r'pip install "hypergen\[hub\]"'):
        write_card(saved(tmp_path / "net.safetensors"), tmp_path / "card")
    assert not (tmp_path / "card").exists()


def test_a_card_tells_no_folder_of_the_images(sample, tmp_path):
    metadata = read_metadata(sample) | {"dataset": "npz:/secret/folder/cats.npz"}
    file = tmp_path / "net.safetensors"
    save_network(file, load_network(sample).state_dict(), metadata)
    text = (write_card(file, tmp_path / "card") / "README.md").read_text()
    assert "secret" not in text and "npz:cats.npz" in text and "mlp-cats.npz-net" in text
    assert read_metadata(tmp_path / "card" / "model.safetensors")["dataset"] == "npz:cats.npz"
