import logging
import sys
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

import targets
from hypergen.errors import InputError, RunError
from hypergen.storage import export as export_module
from hypergen.storage import export_check
from hypergen.storage.export import export
from hypergen.storage.weights import read_metadata

SHAPE = (1, 8, 8)
needs_onnx = pytest.mark.skipif(
    not all(export_module.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="onnx, onnxscript or onnxruntime is not installed",
)
FORMATS = [pytest.param("onnx", marks=needs_onnx), "pt2"]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """With every kind of layer whose export is in doubt, and statistics that are not 0 and 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(1, 6, 3),
            nn.BatchNorm2d(6),
            targets.make_activation("prelu", 6),
            nn.MaxPool2d(2),
            targets.make_activation("kaf-elu", 6),
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(54, 20),
            targets.make_activation("kwta-0.3", 20),
            nn.Linear(20, 5),
        )
        layers(torch.rand(64, *SHAPE))
        return layers.eval()


@pytest.fixture(scope="module")
def ensemble() -> targets.Ensemble:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        members = [targets.build("mlp", "relu", 5, SHAPE) for _ in range(3)]
    return targets.Ensemble(targets.Population.of(members))


@pytest.fixture(scope="module")
def exported(network, ensemble, tmp_path_factory):
    """Exports a kind of network to a format once, and returns the file."""
    folder, files = tmp_path_factory.mktemp("exported"), {}

    def file(format: str, kind: str = "network") -> Path:
        path = folder / f"{kind}.{format}"
        if path not in files:
            what = ensemble if kind == "ensemble" else network
            files[path] = export(what, path, input_shape=SHAPE, int8=kind == "int8")
        return files[path]

    return file


def opened(path: Path):
    """What a file computes, opened as its users open it."""
    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


def images(count: int) -> torch.Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_computes_what_the_network_does_for_any_batch_size(format, network, exported):
    run = opened(exported(format))
    for count in (1, 2, 17):
        with torch.no_grad():
            expected = network(images(count))
        torch.testing.assert_close(run(images(count)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", FORMATS)
def test_an_ensemble_gives_the_log_of_the_mean_probability(format, ensemble, exported):
    with torch.no_grad():
        each = torch.stack([member(images(6)).softmax(1) for member in ensemble.members])
    found = opened(exported(format, "ensemble"))(images(6))
    torch.testing.assert_close(found, each.mean(0).log(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("format", FORMATS)
def test_int8_rounds_each_output_channel_to_255_values(format, network, exported):
    state = dict(network.state_dict())
    for name, scale in rounding_scales(network).items():
        state[name] = (state[name] / scale).round() * scale
    with torch.no_grad():
        expected = torch.func.functional_call(network, state, images(9))
    found = opened(exported(format, "int8"))(images(9))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found, network(images(9)), rtol=1e-4, atol=1e-4)


def rounding_scales(network: nn.Module) -> dict[str, torch.Tensor]:
    """Of the weights that are rounded, by name: what one step is, for each output channel."""
    return {
        name: tensor.abs().amax(tuple(range(1, tensor.ndim)), keepdim=True) / 127
        for name, tensor in network.state_dict().items()
        if name in ("0.weight", "7.weight", "9.weight")
    }


@needs_onnx
def test_an_onnx_file_has_names_a_free_batch_size_and_int8_weights(network, exported):
    import onnx

    model = onnx.load(exported("onnx"))
    onnx.checker.check_model(model)
    assert [opset.version for opset in model.opset_import] == [export_module.OPSET]
    (taken,), (given,) = model.graph.input, model.graph.output
    assert (taken.name, given.name) == ("images", "logits")
    batch, *sizes = taken.type.tensor_type.shape.dim
    assert batch.dim_param == "batch" and [size.dim_value for size in sizes] == list(SHAPE)
    assert onnx.load(exported("onnx", "ensemble")).graph.output[0].name == "log_probabilities"

    stored = onnx.load(exported("onnx", "int8")).graph.initializer
    integers = sorted(
        tuple(each.dims) for each in stored if each.data_type == onnx.TensorProto.INT8
    )
    assert integers == sorted(
        tuple(network.get_parameter(name).shape) for name in rounding_scales(network)
    )


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_names_nothing_of_this_machine(format, exported):
    content = exported(format).read_bytes()
    for folder in (Path(torch.__file__).parent, Path(targets.__file__).parent):
        assert str(folder).encode() not in content


def test_a_pt2_file_has_operations_of_pytorch_alone(exported):
    """So that it can be opened where hypergen is not installed."""
    nodes = torch.export.load(exported("pt2")).graph.nodes
    targets = [node.target for node in nodes if isinstance(node.target, torch._ops.OpOverload)]
    assert {target.namespace for target in targets} == {"aten"}


def test_safetensors_holds_the_state_dict(network, tmp_path):
    path = export(network, tmp_path / "net.safetensors")
    found, expected = safetensors.torch.load_file(path), network.state_dict()
    assert found.keys() == expected.keys()
    assert all(tensor.equal(expected[name]) for name, tensor in found.items())


def test_safetensors_takes_the_metadata_along(tmp_path):
    network = targets.build("mlp", "elu", 5, SHAPE).eval()
    network.metadata = {"target": "mlp", "input_shape": list(SHAPE)}  # pyright: ignore
    path = export(network, tmp_path / "net.safetensors")
    assert read_metadata(path) == network.metadata


def test_the_shape_comes_from_the_metadata(tmp_path):
    network = targets.build("mlp", "relu", 5, SHAPE)
    network.metadata = {"input_shape": list(SHAPE)}  # pyright: ignore
    assert opened(export(network, tmp_path / "net.pt2"))(images(3)).shape == (3, 5)


def test_the_format_can_be_named(tmp_path):
    path = export(targets.build("mlp", "relu", 5, SHAPE), tmp_path / "net", format="safetensors")
    assert safetensors.torch.load_file(path)


class Function(nn.Module):
    """A network that computes a function of the flat images, [B,64] -> [B,K]."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images.flatten(1))


def test_a_file_that_computes_something_else_is_never_seen(tmp_path):
    def otherwise(flat):
        return flat[:, :3] * (2 if torch.compiler.is_compiling() else 1)

    path = tmp_path / "net.pt2"
    path.write_text("an earlier file")
    with pytest.raises(RunError, match="differ from PyTorch's"):
        export(Function(otherwise), path, input_shape=SHAPE)
    assert path.read_text() == "an earlier file" and list(tmp_path.iterdir()) == [path]


def test_int8_that_changes_classes_is_refused(tmp_path):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 2, bias=False))
    weight = torch.zeros(2, 64)
    weight[:, 0], weight[0, 1], weight[1, 2] = 100.0, 0.1, 0.1  # which 100 / 127 rounds to 0
    network[1].weight = nn.Parameter(weight)
    with pytest.raises(RunError, match="int8 changes the class"):
        export(network, tmp_path / "net.pt2", input_shape=SHAPE, int8=True)
    assert not list(tmp_path.iterdir())


BAD = {
    "suffix": (nn.Flatten(), "net.h5", {}, "ends in .onnx, .pt2 or .safetensors"),
    "format": (nn.Flatten(), "net.pt2", {"format": "torch"}, "`format` must be"),
    "several": (
        targets.Population.of([nn.Linear(2, 2)]),
        "net.safetensors",
        {},
        r"one network, got Population; name one, such as population\[0\]",
    ),
    "none": (5, "net.pt2", {}, "expected one network, got int"),
    "never set up": (nn.Flatten.__new__(nn.Flatten), "net.pt2", {}, "`Flatten` must call super"),
    "no shape": (nn.Flatten(), "net.pt2", {"input_shape": None}, "`input_shape` is needed"),
    "odd shape": (nn.Flatten(), "net.pt2", {"input_shape": (8, 8)}, "channels, height, width"),
    "a number": (nn.Flatten(), "net.pt2", {"input_shape": 3}, "height, width., got 3"),
    "other shape": (nn.Conv2d(3, 4, 3), "net.pt2", {}, "takes no images of shape"),
    "no logits": (nn.Conv2d(1, 4, 3), "net.pt2", {}, r"logits \[B,K\]"),
    "NaN": (Function(lambda flat: flat * torch.nan), "net.pt2", {}, "NaN"),
    "no folder": (nn.Flatten(), "missing/net.pt2", {}, "folder does not exist"),
    "weights in int8": (nn.Flatten(), "net.safetensors", {"int8": True}, "`int8` is for"),
    "branch": (
        Function(lambda flat: flat if flat.sum() > 0 else -flat),
        "net.pt2",
        {},
        "does not fit a .pt2",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_mistake_is_one_line_and_leaves_nothing(bad, tmp_path):
    network, name, options, said = BAD[bad]
    with pytest.raises(InputError, match=said) as caught:
        export(network, tmp_path / name, **{"input_shape": SHAPE, **options})
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r'pip install "hypergen\[export\]"'):
        export(nn.Flatten(), tmp_path / "net.onnx", input_shape=SHAPE)


def test_without_onnxruntime_a_warning_says_that_nothing_was_checked(tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "find_spec", lambda name: name)
    monkeypatch.setattr(export_module, "_onnx", lambda *_: b"a graph")
    monkeypatch.setattr(export_check, "find_spec", lambda name: None)
    with pytest.warns(UserWarning, match="not checked: onnxruntime is not installed"):
        path = export(nn.Flatten(), tmp_path / "net.onnx", input_shape=SHAPE)
    assert path.read_bytes() == b"a graph"


@pytest.fixture
def unusual():
    """Settings that are not PyTorch's usual ones."""
    torch.set_default_dtype(torch.float64)
    logging.disable(logging.DEBUG)
    yield
    torch.set_default_dtype(torch.float32)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("format", [*FORMATS, "safetensors"])
def test_the_callers_state_and_network_stay_and_nothing_is_printed(
    format, tmp_path, unusual, capfd
):
    def state():
        settings = torch.get_default_dtype(), torch.is_grad_enabled(), logging.root.manager.disable
        settings += (warnings.filters[:], torch.get_rng_state().tolist())
        modes = [layer.training for layer in network.modules()]
        tensors = [tensor.tolist() for tensor in network.state_dict().values()]
        trained = [parameter.requires_grad for parameter in network.parameters()]
        return (
            settings,
            modes,
            tensors,
            trained,
            warnings.filters[:],
            torch.get_rng_state().tolist(),
        )

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten()).float()
    network[1].eval()
    before = state()
    with warnings.catch_warnings(record=True) as caught:
        export(network, tmp_path / f"net.{format}", input_shape=SHAPE)
    assert state() == before and not caught
    assert capfd.readouterr() == ("", "")


def test_it_works_where_gradients_are_off(tmp_path):
    with torch.inference_mode():
        network = targets.build("mlp", "relu", 5, SHAPE)
        export(network, tmp_path / "net.pt2", input_shape=SHAPE)
        assert torch.is_inference_mode_enabled()
