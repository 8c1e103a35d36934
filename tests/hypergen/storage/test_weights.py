import random

import pytest
import safetensors.torch
import torch
from torch import nn

import targets
from hypergen.catalog import TARGETS
from hypergen.registry import Plugin
from hypergen.storage.tensor_files import write_tensors
from hypergen.storage.weights import (
    fill,
    is_own,
    load_network,
    read_metadata,
    read_network,
    save_network,
)


class WithBatchNorm(nn.Module):
    """A network that a user brings, which cannot be made without numbers."""

    def __init__(self, num_classes: int = 10):
        super().__init__()
        self.width = int(torch.ones(3).sum())
        self.layers = nn.Sequential(
            nn.Conv2d(1, self.width, 3), nn.BatchNorm2d(self.width), nn.Flatten(), nn.LazyLinear(10)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


@pytest.fixture
def file(tmp_path, network, metadata):
    path = tmp_path / "net.safetensors"
    save_network(path, network.state_dict(), metadata)
    return path


@pytest.fixture
def plugin(monkeypatch):
    """The target "own" of my_net.py."""
    found = Plugin("my_net.py", "/somewhere/my_net.py", "0123")
    TARGETS.put("own", WithBatchNorm, found)
    yield found
    TARGETS.drop("own")


def test_plain_pytorch_opens_it(file, network):
    other = targets.build("small-lenet5", activation="elu")
    other.load_state_dict(safetensors.torch.load_file(file), strict=True)
    images = torch.rand(4, 1, 28, 28)
    assert other.eval()(images).equal(network(images))


@pytest.mark.parametrize("target", ["mlp", "small-lenet5", "light-cnn", "resnet20"])
@pytest.mark.parametrize("activation", ["relu", "kwta-0.2", "kaf-elu"])
def test_load_network_gives_the_same_network(tmp_path, target, activation, metadata):
    shape = (3, 16, 16) if target != "small-lenet5" else (1, 28, 28)
    network = targets.build(target, activation, 7, shape).eval()
    layout = targets.WeightLayout.of(network).fingerprint
    told = {"target": target, "activation": activation, "num_classes": 7, "layout": layout}
    path = tmp_path / "n.safetensors"
    save_network(path, network.state_dict(), metadata | told | {"input_shape": list(shape)})
    loaded = load_network(path)
    images = torch.rand(4, *shape)
    assert not loaded.training and loaded(images).equal(network(images))
    assert not any(tensor.is_meta for tensor in (*loaded.parameters(), *loaded.buffers()))


def test_metadata_comes_back(file, network, metadata):
    assert is_own(file) and read_metadata(file) == metadata
    state, again = read_network(file)
    assert again == metadata
    assert state.keys() == network.state_dict().keys()


def test_the_callers_state_is_left_alone(file, network):
    images = torch.rand(4, 1, 28, 28)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with torch.inference_mode():
        loaded = load_network(file)
        assert torch.is_inference_mode_enabled()
    assert torch.get_rng_state().equal(before)
    with torch.device("meta"):
        assert {tensor.device.type for tensor in load_network(file).parameters()} == {"cpu"}
    loaded(images.requires_grad_()).sum().backward()  # no tensors of inference mode
    with torch.no_grad():
        assert all(parameter.requires_grad for parameter in load_network(file).parameters())


def test_a_missing_file_and_a_folder_are_refused(tmp_path, refused):
    for read in (read_metadata, load_network, read_network):
        for path in (tmp_path / "none.safetensors", tmp_path):
            assert str(path) in refused(read, path)


def test_a_pickle_is_no_weight_file(tmp_path, network, refused):
    path = tmp_path / "net.safetensors"
    torch.save(network.state_dict(), path)
    assert "not a safetensors file" in refused(load_network, path)
    path.rename(tmp_path / "net.pt")
    assert not is_own(tmp_path / "net.pt")


def test_safetensors_without_metadata_is_external(tmp_path, network, refused):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    assert "no metadata" in refused(load_network, path)
    assert not is_own(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "small-lenet"}, 'unknown target "small-lenet" (did you mean "small-lenet5"?)'),
        ({"target": 5}, "`target` is 5, expected a short text"),
        ({"activation": "rellu"}, "rellu"),
        ({"num_classes": "ten"}, "`num_classes` is 'ten', expected an integer"),
        ({"num_classes": 1}, "at least 2 classes"),
        ({"input_shape": None}, "lacks `input_shape`"),
        ({"input_shape": [1, 2, 2]}, "small-lenet5"),
        ({"num_classes": 7}, "but small-lenet5 here has"),
        ({"layout": "0123"}, "its layout is 0123, but small-lenet5 here has"),
        ({"plugins": "all"}, "`plugins`"),
        ({"plugins": [{}]}, "plugins cannot be read"),
    ],
)
def test_metadata_of_another_network_is_refused(
    tmp_path, network, metadata, change, message, refused
):
    path = tmp_path / "net.safetensors"
    save_network(path, network.state_dict(), metadata | change)
    told = refused(load_network, path)
    assert str(path) in told and message in told


def test_tensors_that_do_not_fit_are_refused(tmp_path, network, metadata, refused):
    def loading(change):
        state = dict(network.state_dict())
        change(state)
        save_network(tmp_path / "n", state, metadata)
        return refused(load_network, tmp_path / "n")

    name, tensor = next(iter(network.state_dict().items()))
    assert f"lacks {name}" in loading(lambda state: state.pop(name))
    assert "unknown extra" in loading(lambda state: state.update(extra=tensor))
    many = loading(lambda state: state.update({f"{n}\n" + "x" * 500: tensor for n in range(9)}))
    assert "and 6 more" in many
    wrong = loading(lambda state: state.update({name: tensor[:3]}))
    assert "has shape [3, 1, 5, 5], expected [8, 1, 5, 5]" in wrong
    assert "NaN" in loading(lambda state: state.update({name: tensor / 0}))
    assert "int64, expected" in loading(lambda state: state.update({name: tensor.long()}))
    # More than the module, which has float32, can hold.
    assert "infinity" in loading(lambda state: state.update({name: tensor.double() * 1e300}))


@pytest.mark.parametrize(
    "make",
    [
        lambda weight: weight.to("meta"),
        lambda weight: weight.to_sparse(),
        lambda weight: weight.to(torch.complex64),
        lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        lambda weight: torch.nested.nested_tensor([weight, weight]),
    ],
)
def test_tensors_without_plain_numbers_are_refused(network, make, tmp_path, refused):
    state = dict(network.state_dict())
    name = next(iter(state))
    assert name in refused(fill, network, state | {name: make(state[name])}, tmp_path)


def test_counts_of_batches_may_be_missing(tmp_path):
    network = targets.build("resnet20", input_shape=(3, 16, 16)).eval()
    state = {name: t for name, t in network.state_dict().items() if "num_batches" not in name}
    assert len(state) < len(network.state_dict())
    found = fill(targets.build("resnet20", input_shape=(3, 16, 16)), state, tmp_path)
    images = torch.rand(2, 3, 16, 16)
    assert found(images).equal(network(images))


def test_a_plugin_is_asked_for_and_never_run(tmp_path, plugin, refused, metadata):
    network = targets.build("own").eval()
    layout = targets.WeightLayout.of(network).fingerprint
    entry = {"kind": "target", "name": "own", "source": "my_net.py", "sha256": "0123"}
    told = {"target": "own", "activation": "relu", "layout": layout, "plugins": [entry]}
    path = tmp_path / "own.safetensors"
    save_network(path, network.state_dict(), metadata | told)
    images = torch.rand(2, 1, 28, 28)
    assert load_network(path)(images).equal(network(images))
    TARGETS.drop("own")
    assert "add `plugin` my_net.py" in refused(load_network, path)


LARGE = """
import resource
from hypergen.errors import InputError
from hypergen.storage.weights import load_network
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in PATHS:
    try:
        load_network(path)
    except InputError as error:
        print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_sizes_are_compared_before_anything_is_built(tmp_path, metadata, elsewhere):
    """Networks that would need gigabytes, refused with little memory: in another process."""
    paths = []
    for index, change in enumerate(
        [
            {"num_classes": 30_000_000},
            {"input_shape": [1, 10_000, 1_000]},
            {"target": "wide-mlp", "input_shape": [1, 4_000, 4_000]},
            {"target": "mlp", "num_classes": 2**62},
        ]
    ):
        network = targets.build("mlp", num_classes=10)
        told = {"target": "mlp", "activation": "relu"}
        paths.append(tmp_path / f"{index}.safetensors")
        save_network(paths[-1], network.state_dict(), metadata | told | change)
    *lines, megabytes = elsewhere(f"PATHS = {[*map(str, paths)]}\n{LARGE}").splitlines()
    assert len(lines) == len(paths) and int(megabytes) < 200
    assert all(str(path) in line for path, line in zip(paths, lines, strict=True))


def test_a_damaged_file_is_told_in_one_line(file, metadata, refused):
    """Changes at random, most of them in the header, where the metadata and the shapes stand."""
    whole, draw = bytearray(file.read_bytes()), random.Random(0)
    header = int.from_bytes(whole[:8], "little")
    for _ in range(150):
        changed = bytearray(whole)
        for _ in range(draw.choice([1, 1, 3])):
            changed[draw.randrange(8 + header)] = draw.randrange(256)
        file.write_bytes(changed)
        try:
            load_network(file)
        except Exception:
            assert str(file) in refused(load_network, file)


def test_a_header_may_not_name_more_than_the_file_holds(tmp_path, refused):
    path = tmp_path / "n.safetensors"
    write_tensors(path, {"a": torch.zeros(4)}, {})
    path.write_bytes(path.read_bytes().replace(b"[4]", b"[9]"))
    assert "damaged" in refused(load_network, path)
