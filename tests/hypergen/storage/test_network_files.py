from types import SimpleNamespace

import pytest
import safetensors.torch
import torch

import targets
from hypergen.storage.network_files import NetworkFile, agreed, find, open_networks
from hypergen.storage.weights import save_network

INFO = SimpleNamespace(num_classes=10, input_shape=(1, 28, 28))


@pytest.fixture
def own(tmp_path, network, metadata):
    path = tmp_path / "own.safetensors"
    save_network(path, network.state_dict(), metadata | {"dataset": "digits"})
    return path


@pytest.fixture
def external(tmp_path, network):
    path = tmp_path / "external.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    return path


def test_find_knows_files_folders_and_runs(tmp_path, monkeypatch, refused):
    assert "no such file" in refused(find, [tmp_path / "none"])
    assert "holds no .safetensors" in refused(find, [tmp_path])
    assert "no weight files" in refused(find, [])
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    names = [run / "samples" / f"{index}.safetensors" for index in (0, 1)]
    for path in (*reversed(names), run / "checkpoint.safetensors"):
        path.touch()
    assert find([run]) == [run / "checkpoint.safetensors"]
    (run / "config.json").touch()
    assert find([run, run / "samples", names[1]]) == [*names, *names, names[1]]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find([type(run)("~/run")]) == names


def test_own_files_are_taken_at_their_word(own, network):
    (found,) = open_networks([own])
    assert found.path == own and found.metadata["dataset"] == "digits"
    assert "measured" not in found.metadata
    images = torch.rand(2, 1, 28, 28)
    assert found.module(images).equal(network(images))


def test_external_ones_are_built_as_told(own, external, network):
    mixed = open_networks([external, own], "small-lenet5", "elu", INFO)
    images = torch.rand(2, 1, 28, 28)
    for found in mixed:
        assert not found.module.training and found.module(images).equal(network(images))
    assert mixed[0].metadata == {"target": "small-lenet5", "activation": "elu"}


def test_what_external_files_need_is_asked_for(own, external, refused):
    assert "name its `target`" in refused(open_networks, [external])
    assert "name a `dataset`" in refused(open_networks, [external], "small-lenet5")
    assert "these files say what they hold" in refused(open_networks, [own], "mlp", "relu", INFO)
    assert "lacks" in refused(open_networks, [external], "mlp", "relu", INFO)
    with pytest.raises(targets.TargetError):
        open_networks([external], "no-such-target", "relu", INFO)


def test_networks_agree_or_a_choice_is_asked_for(network, own, refused):
    def files(*values):
        return [NetworkFile(own, network, {"epsilon": v} if v else {}) for v in values]

    assert agreed(files(), "epsilon") is None
    assert agreed(files(None, None), "epsilon") is None
    assert agreed(files(0.1, None, 0.1), "epsilon") == 0.1
    message = refused(agreed, files(0.2, 0.1), "epsilon")
    assert message == "the networks differ in epsilon (0.1, 0.2); choose one by `epsilon`"


def test_the_global_random_state_stays(external):
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    open_networks([external], target="small-lenet5", info=INFO)
    assert torch.equal(torch.rand(2), expected)
