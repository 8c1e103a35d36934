"""Networks of runs and files, exported."""

import pytest
import safetensors.torch
import torch

from hypergen.errors import InputError
from hypergen.experiments.export import export_files
from hypergen.storage.weights import load_network
from targets import Ensemble, Population, TargetError


def test_a_run_is_exported_sample_by_sample(ranged_run, tmp_path):
    paths = export_files([ranged_run.folder], "safetensors", tmp_path / "out")
    samples = sorted((ranged_run.folder / "samples").iterdir())
    assert [path.name for path in paths] == [sample.name for sample in samples]
    for path, sample in zip(paths, samples, strict=True):
        expected = load_network(sample).state_dict()
        found = safetensors.torch.load_file(path)
        assert found.keys() == expected.keys()
        assert all(found[name].equal(tensor) for name, tensor in expected.items())
    with pytest.raises(InputError, match="exists; choose another `out`"):
        export_files([ranged_run.folder], "safetensors", tmp_path / "out")


def test_one_network_goes_where_it_is_told(base, tmp_path):
    goal = tmp_path / "net.pt2"
    assert export_files([base], "pt2", goal) == [goal]
    images = torch.rand(3, 1, 8, 8)
    with torch.no_grad():
        found = torch.export.load(goal).module()(images)
        torch.testing.assert_close(found, load_network(base)(images), rtol=1e-4, atol=1e-4)


def test_an_ensemble_is_one_file(base, saved, tmp_path):
    files = [base, saved(tmp_path / "other.safetensors", seed=1)]
    (path,) = export_files(files, "pt2", tmp_path / "out", ensemble=True)
    assert path == tmp_path / "out" / "ensemble.pt2"
    images = torch.rand(3, 1, 8, 8)
    voters = Ensemble(Population.of(map(load_network, files)))
    with torch.no_grad():
        found = torch.export.load(path).module()(images)
        torch.testing.assert_close(found, voters(images), rtol=1e-4, atol=1e-4)


def test_beside_each_network_by_default(saved, tmp_path):
    files = [saved(tmp_path / f"{name}.safetensors", seed=name) for name in range(2)]
    assert export_files(files, "pt2") == [file.with_suffix(".pt2") for file in files]


def test_what_cannot_be_exported_leaves_nothing(base, saved, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(InputError, match="`ensemble` needs several networks"):
        export_files([base], "pt2", out, ensemble=True)
    other = tmp_path / "there"
    other.mkdir()
    twin = saved(other / base.name, seed=1)
    with pytest.raises(InputError, match="networks of one name from several folders"):
        export_files([base, twin], "pt2", out)
    cnn = saved(tmp_path / "cnn.safetensors", "fbf-cnn")
    with pytest.raises(TargetError):
        export_files([base, cnn], "pt2", out, ensemble=True)
    with pytest.raises(InputError, match="no such file"):
        export_files([tmp_path / "none"], "pt2", out)
    assert not out.exists()
