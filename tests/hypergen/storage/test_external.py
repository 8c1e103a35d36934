import json
import os
import pickle
import zipfile

import pytest
import safetensors.torch
import torch
from torch import nn

import targets
from hypergen.storage.external import load_external, read_external
from hypergen.storage.weights import save_network


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.pt"


def same(found, state) -> bool:
    return found.keys() == state.keys() and all(found[k].equal(state[k]) for k in state)


@pytest.mark.parametrize("nest", ["state_dict", "model", "model_state_dict", "net", "weights"])
def test_a_nested_state_dict_is_found(path, network, nest):
    state = network.state_dict()
    for tree in ({nest: state}, {nest: state, "epoch": 3}, {nest: {"state_dict": state}, "a": {}}):
        torch.save(tree, path)
        assert same(read_external(path), state)


@pytest.mark.parametrize("prefix", ["module.", "model.", "net.", "model.net.", "module.module."])
def test_a_prefix_of_all_names_is_left_out(path, network, prefix):
    state = network.state_dict()
    torch.save({f"{prefix}{name}": tensor for name, tensor in state.items()}, path)
    assert same(read_external(path), state)
    images = torch.rand(2, 1, 28, 28)
    fresh = targets.build("small-lenet5", activation="elu")
    assert load_external(path, fresh)(images).equal(network(images))


def test_a_prefix_that_the_module_has_itself_stays(path, network):
    wrapped = nn.ModuleDict({"model": network})
    state = wrapped.state_dict()
    for saved in (wrapped, nn.DataParallel(wrapped)):
        torch.save(saved.state_dict(), path)
        assert same(read_external(path, state.keys()), state)
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, path)
    assert read_external(path).keys() == {"module.a", "b"}


@pytest.mark.parametrize("before", ["_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_names_of_compiled_modules_are_read(path, network, before):
    state = network.state_dict()
    torch.save({f"{before}{name}": tensor for name, tensor in state.items()}, path)
    assert same(read_external(path), state)


def test_names_of_modules_compiled_in_part_are_read(path):
    torch.save({"0.weight": torch.ones(1), "1._orig_mod.weight": torch.ones(1)}, path)
    assert read_external(path).keys() == {"0.weight", "1.weight"}


def test_safetensors_are_read(tmp_path, network, metadata):
    path = tmp_path / "n.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    assert same(read_external(path), network.state_dict())
    save_network(path, network.state_dict(), metadata)  # our own are external ones as well
    assert same(read_external(path), network.state_dict())


class Malice:
    def __reduce__(self):
        return os.system, ("exit 3",)


def test_code_in_a_file_is_refused_and_not_run(tmp_path, network, monkeypatch, refused):
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    torch.save({"state_dict": Malice()}, tmp_path / "malice.pt")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps(Malice(), protocol=2))
    torch.save(network, tmp_path / "module.pt")
    for name in ("malice.pt", "raw.pth", "module.pt"):
        message = refused(read_external, tmp_path / name)
        assert message.startswith("refused: ") and name in message
    assert not ran


def test_files_without_a_state_dict_are_refused(path, refused):
    endless: dict = {}
    endless["model"] = endless
    for saved in ([1, 2], {}, {"epoch": 3}, torch.zeros(3), {0: torch.zeros(3)}, None, endless):
        torch.save(saved, path)
        assert "no state_dict" in refused(read_external, path)


def test_damaged_files_are_refused(path, network, refused):
    torch.save(network.state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"text", json.dumps({"a": 1}).encode(), whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert str(path) in refused(read_external, path)
    path.unlink()
    assert "there is no file" in refused(read_external, path)


def test_a_bomb_is_refused_before_it_unfolds(path, tmp_path, refused):
    torch.save({"a": torch.zeros(10_000_000)}, tmp_path / "large")
    deflated = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(tmp_path / "large") as large, zipfile.ZipFile(path, "w", deflated) as bomb:
        for record in large.infolist():
            bomb.writestr(record.filename, large.read(record))
    (tmp_path / "large").unlink()
    assert path.stat().st_size < 1_000_000
    assert "is compressed" in refused(read_external, path)


@pytest.mark.parametrize(
    "make",
    [
        lambda weight: torch.empty_like(weight, device="meta"),
        lambda weight: weight.to_sparse(),
        lambda weight: weight.double() * 1e300,
        lambda weight: weight.long(),
        lambda weight: torch.zeros(1).expand(10**12),
    ],
)
def test_numbers_that_no_network_can_have_are_refused(path, network, make, refused):
    state = dict(network.state_dict())
    name = next(iter(state))
    torch.save(state | {name: make(state[name])}, path)
    message = refused(load_external, path, network)
    assert str(path) in message and name in message
