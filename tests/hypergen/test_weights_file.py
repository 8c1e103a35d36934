import json
import os
import pickle

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

import targets
from hypergen.errors import InputError
from hypergen.weights_file import (
    load_network,
    metadata_if_ours,
    read_foreign,
    read_metadata,
    read_network,
    save_network,
)


@pytest.fixture
def network():
    torch.manual_seed(0)
    return targets.build("small-lenet5", activation="elu")


@pytest.fixture
def metadata(network):
    return {
        "target": "small-lenet5",
        "activation": "elu",
        "num_classes": 10,
        "input_shape": [1, 28, 28],
        "layout": targets.WeightLayout.of(network).fingerprint,
        "z": [0.1, -1e-30],
        "measured": {"accuracy": 0.99, "robustness": None},
    }


@pytest.fixture
def file(tmp_path, network, metadata):
    path = tmp_path / "net.safetensors"
    save_network(path, network.state_dict(), metadata)
    return path


def one_line(caught) -> str:
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300
    return message


def test_plain_pytorch_opens_it(file, network):
    other = targets.build("small-lenet5", activation="elu")
    other.load_state_dict(safetensors.torch.load_file(file), strict=True)
    images = torch.rand(4, 1, 28, 28)
    assert other.eval()(images).equal(network.eval()(images))


def test_load_network_gives_the_same_network(file, network):
    loaded = load_network(file)
    images = torch.rand(4, 1, 28, 28)
    assert not loaded.training
    assert loaded(images).equal(network.eval()(images))


def test_metadata_comes_back(file, network, metadata):
    assert read_metadata(file) == metadata_if_ours(file) == metadata
    state, again = read_network(file)
    assert again == metadata
    assert state.keys() == network.state_dict().keys()


def test_nothing_else_is_left_in_the_folder(file):
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_failed_write_keeps_the_old_file(file, network, metadata, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        save_network(file, network.state_dict(), metadata)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_full_disk_is_an_error_of_the_system(file, network, metadata, monkeypatch):
    def fail(*args):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save_network(file, network.state_dict(), metadata)


def test_tied_and_strided_tensors_can_be_saved(tmp_path):
    weight = torch.arange(6.0).view(2, 3)
    save_network(tmp_path / "n", {"a": weight, "b": weight, "c": weight.T}, {})
    state, _ = read_network(tmp_path / "n")
    assert state["b"].equal(weight) and state["c"].equal(weight.T)


def test_foreign_bytes_are_refused(tmp_path, file):
    whole = file.read_bytes()
    for content in (b"", b"plain text, and not a short one", whole[:50], whole[:-7]):
        path = tmp_path / "bad.safetensors"
        path.write_bytes(content)
        for read in (read_metadata, metadata_if_ours, read_network, load_network, read_foreign):
            with pytest.raises(InputError) as caught:
                read(path)
            assert "bad.safetensors: not a safetensors file, or damaged" in one_line(caught)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for read in (read_metadata, load_network, read_foreign):
        for path in (tmp_path / "none.safetensors", tmp_path):
            with pytest.raises(InputError, match=str(path)) as caught:
                read(path)
            one_line(caught)


def test_a_pickle_is_no_weight_file(tmp_path, network):
    path = tmp_path / "net.safetensors"
    torch.save(network.state_dict(), path)
    with pytest.raises(InputError, match="not a safetensors file"):
        load_network(path)


def test_safetensors_without_metadata_is_foreign(tmp_path, network):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    with pytest.raises(InputError, match="no metadata"):
        load_network(path)
    assert metadata_if_ours(path) is None
    assert read_foreign(path).keys() == network.state_dict().keys()


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_metadata_that_is_no_object_is_foreign(tmp_path, text):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"hypergen": text})
    with pytest.raises(InputError, match="no metadata"):
        read_metadata(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "small-lenet"}, "small-lenet"),
        ({"activation": "rellu"}, "rellu"),
        ({"num_classes": "ten"}, "num_classes|str"),
        ({"input_shape": None}, "NoneType"),
        ({"num_classes": 7}, "its layout is [0-9a-f]+, but small-lenet5 here has [0-9a-f]+"),
        ({"layout": "0123"}, "its layout is 0123, but small-lenet5 here has"),
    ],
)
def test_metadata_of_another_network_is_refused(tmp_path, network, metadata, change, message):
    path = tmp_path / "net.safetensors"
    save_network(path, network.state_dict(), metadata | change)
    with pytest.raises(InputError, match=message) as caught:
        load_network(path)
    assert str(path) in one_line(caught)


def test_metadata_with_a_gap_is_refused(tmp_path, network, metadata):
    del metadata["activation"]
    save_network(tmp_path / "n", network.state_dict(), metadata)
    with pytest.raises(InputError, match="lacks 'activation'"):
        load_network(tmp_path / "n")


def test_tensors_that_do_not_fit_are_refused(tmp_path, network, metadata):
    def loading(change):
        state = dict(network.state_dict())
        change(state)
        save_network(tmp_path / "n", state, metadata)
        with pytest.raises(InputError) as caught:
            load_network(tmp_path / "n")
        return one_line(caught)

    name, tensor = next(iter(network.state_dict().items()))
    assert f"lacks {name}" in loading(lambda state: state.pop(name))
    assert "unknown extra" in loading(lambda state: state.update(extra=tensor))
    wrong = loading(lambda state: state.update({name: tensor[:3]}))
    assert "has shape [3, 1, 5, 5], expected [8, 1, 5, 5]" in wrong
    assert "NaN" in loading(lambda state: state.update({name: tensor / 0}))
    assert "int64, expected" in loading(lambda state: state.update({name: tensor.long()}))


def test_foreign_state_dicts_are_found(tmp_path, network):
    state = network.state_dict()
    parallel = torch.nn.DataParallel(network).state_dict()
    assert parallel.keys() != state.keys()
    for saved in (state, {"state_dict": state, "epoch": 3}, {"model": state}, parallel):
        torch.save(saved, tmp_path / "net.pt")
        found = read_foreign(tmp_path / "net.pt")
        assert found.keys() == state.keys() and all(found[k].equal(state[k]) for k in state)


class Malice:
    def __reduce__(self):
        return os.system, ("exit 3",)


def test_code_in_a_file_is_refused_and_not_run(tmp_path, network, monkeypatch):
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    torch.save({"state_dict": Malice()}, tmp_path / "malice.pt")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Malice(), protocol=2))
    torch.save(network, tmp_path / "module.pt")
    for name in ("malice.pt", "raw.pth", "module.pt"):
        with pytest.raises(InputError, match=f"refused: .*{name}") as caught:
            read_foreign(tmp_path / name)
        one_line(caught)
    assert not ran


def test_foreign_files_without_a_state_dict_are_refused(tmp_path, network):
    path = tmp_path / "net.pt"
    for saved in ([1, 2], {}, {"epoch": 3}, torch.zeros(3), {0: torch.zeros(3)}):
        torch.save(saved, path)
        with pytest.raises(InputError, match="no state_dict"):
            read_foreign(path)
    torch.save(network.state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"text", json.dumps({"a": 1}).encode(), whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            read_foreign(path)
        assert str(path) in one_line(caught)
