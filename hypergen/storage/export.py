"""Writes networks for use elsewhere: .onnx, .pt2 and .safetensors files.

An .onnx file takes `images`, float32 [B,C,H,W] in [0,1] with any B, and gives `logits` [B,K], or
`log_probabilities` if the network is an Ensemble. A .pt2 file, which PyTorch opens by
`torch.export.load(path).module()`, takes and gives the same. A .safetensors file holds the
state_dict, and the metadata that stand in `network.metadata`. None needs hypergen to be opened, and
none holds paths of the machine that it was written on.

A file is read back before it stands under its name. A .safetensors must hold the same numbers. The
others must give PyTorch's logits to 1e-4 of the largest on random images, in batches of several
sizes. Rounding alone moves some networks further: k-WTA at a tie, a KAF of many points. There a
file may be ten times as far off as PyTorch itself, on images moved by 1e-6, but 95 % of all images
must have the same class.

int8 stores the weights of linear layers and convolutions as 8-bit integers, with one scale for each
output channel. Everything else, and all arithmetic, stays in float32: such a file is about a
quarter as large, and no faster.
"""

import contextlib
import copy
import io
import logging
import math
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hypergen.errors import InputError, RunError
from hypergen.storage.atomic import replacing
from hypergen.storage.export_check import (
    SAME_CLASS,
    first_line,
    opened,
    random_images,
    require_same,
    same_class,
)
from hypergen.storage.folders import expanded
from hypergen.storage.impersonal import impersonal_tree
from hypergen.storage.tensor_files import read_tensors, write_tensors
from hypergen.storage.weights import save_network
from targets import Ensemble, Population, image_shape, require_initialized
from targets.rounding import LAYERS, quantized

FORMATS = ("onnx", "pt2", "safetensors")
OPSET = 20
"""Of .onnx files: the version of ONNX's operators, which runtimes have to know."""


def export(
    network: nn.Module,
    path: Path | str,
    *,
    input_shape: tuple[int, int, int] | None = None,
    int8: bool = False,
    format: str | None = None,
) -> Path:
    """Writes `network`, checks the file (see this module's docstring) and returns its path.

    An .onnx is checked by onnxruntime; where that is missing, a warning says so.

    Args:
        network: images [B,C,H,W] in [0,1] -> logits [B,K]. It is exported as it is in evaluation
            mode, on a CPU and in float32, and stays as it was.
        path: replaced at once or not at all.
        input_shape: (C, H, W) of the images; by default that of `network.metadata`. A .safetensors
            needs none.
        int8: store weights as 8-bit integers; 95 % of random images must keep their class.
        format: "onnx", "pt2" or "safetensors"; by default the suffix of `path`.

    Raises:
        InputError: no network or several, an unknown format, a missing package, no input shape or
            one the network does not take, a folder that is not there, or a network that the format
            cannot express.
        RunError: the file would compute something else than the network.
    """
    if not isinstance(network, nn.Module):
        ways = "; name one, such as population[0], or all as one by hypergen.ensemble"
        hint = ways if isinstance(network, Population) else ""
        raise InputError(f"expected one network, got {type(network).__name__}{hint}")
    require_initialized(network, "the network", InputError)
    path = expanded(path)
    format = _known_format(path, format, int8)
    checked = True
    with _undisturbed():
        if format == "safetensors":
            _write_weights(network, path)
        else:
            shape = _input_shape(network, input_shape)
            checked = _write_graph(network, path, format, shape, int8)
    if not checked:
        warnings.warn(f"{path} was not checked: onnxruntime is not installed", stacklevel=2)
    return path


def _known_format(path: Path, format: str | None, int8: bool) -> str:
    """The format to write in, after everything that can be refused without work."""
    known = path.suffix.removeprefix(".") if format is None else format
    if known not in FORMATS:
        if format is None:
            raise InputError(f"{path}: expected a name that ends in .onnx, .pt2 or .safetensors")
        raise InputError(f"`format` must be one of {', '.join(FORMATS)}, got {format!r}")
    require_writable(known, int8)
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: it is a folder, or its folder does not exist")
    return known


def require_writable(format: str, int8: bool) -> None:
    """`InputError` for a format that has no weights of 8 bits, or whose packages are missing."""
    if int8 and format == "safetensors":
        raise InputError("`int8` is for .onnx and .pt2; .safetensors holds the weights as they are")
    for package in ("onnx", "onnxscript") if format == "onnx" else ():
        if find_spec(package) is None:
            raise InputError(f'.onnx needs the package {package}: pip install "hypergen[export]"')


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Within, PyTorch has its usual settings and exporters are silent; then all is as before."""
    dtype, disabled = torch.get_default_dtype(), logging.root.manager.disable
    with (
        torch.random.fork_rng(devices=[]),
        torch.inference_mode(False),
        torch.no_grad(),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        try:
            warnings.simplefilter("ignore")
            logging.disable(logging.CRITICAL)
            torch.set_default_dtype(torch.float32)
            yield
        finally:
            torch.set_default_dtype(dtype)
            logging.disable(disabled)


def _metadata(network: nn.Module) -> dict[str, Any]:
    named = network.members[0] if isinstance(network, Ensemble) else network
    metadata = getattr(named, "metadata", None)
    return metadata if isinstance(metadata, dict) else {}


def _write_weights(network: nn.Module, path: Path) -> None:
    state, metadata = network.state_dict(), _metadata(network)
    with replacing(path) as part:
        if metadata:
            save_network(part, state, impersonal_tree(metadata))
        else:
            write_tensors(part, state, {})
        loaded = copy.deepcopy(network)
        loaded.load_state_dict(read_tensors(part)[0])
        if not all(tensor.equal(state[name]) for name, tensor in loaded.state_dict().items()):
            raise RunError(f"{path} was not written: it would hold other numbers than the network")


def _write_graph(
    network: nn.Module, path: Path, format: str, shape: tuple[int, int, int], int8: bool
) -> bool:
    """Writes an .onnx or .pt2; returns whether it could be checked."""
    output = "log_probabilities" if isinstance(network, Ensemble) else "logits"
    network, batches = _plain(network), random_images(shape)
    example = batches[-1][:2].clone()  # a view would take the whole batch into the file
    _require_classifier(network, example)
    if int8:
        network = _rounded(network, batches[-1], path)
    try:
        content = _onnx(network, example, output) if format == "onnx" else _pt2(network, example)
    except Exception as error:
        raise InputError(f"the network does not fit a .{format}: {first_line(error)}") from error
    with replacing(path) as part:
        part.write_bytes(content)
        exported = opened(part, format, path)
        if exported is not None:
            require_same(exported, network, batches, path)
    return exported is not None


def _input_shape(network: nn.Module, given: tuple[int, int, int] | None) -> tuple[int, int, int]:
    known = _metadata(network).get("input_shape") if given is None else given
    if known is None:
        raise InputError("`input_shape` is needed: (channels, height, width), as in (1, 28, 28)")
    shape = image_shape(known)
    if shape is None:
        raise InputError(f"`input_shape` must be (channels, height, width), got {known!r:.60}")
    return shape


class _Vote(nn.Module):
    """What an Ensemble computes, in layers alone."""

    def __init__(self, members: list[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        logits = torch.stack([member(images) for member in self.members])
        return logits.log_softmax(-1).logsumexp(0) - math.log(len(self.members))


def _plain(network: nn.Module) -> nn.Module:
    """A copy in evaluation mode, on the CPU, in float32, without gradients."""
    network = _Vote(list(network.members)) if isinstance(network, Ensemble) else network
    return copy.deepcopy(network).eval().cpu().float().requires_grad_(False)


def _require_classifier(network: nn.Module, images: Tensor) -> None:
    shape = tuple(images.shape[1:])
    try:
        logits = network(images)
    except Exception as error:
        reason = first_line(error)
        raise InputError(f"the network takes no images of shape {shape}: {reason}") from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        given = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the network must give logits [B,K] for images [B,C,H,W], got {given}")
    if logits.isnan().any():
        raise InputError("the network gives NaN for random images")


class _Int8(nn.Module):
    """A layer's weights as 8-bit integers, times one scale for each output channel."""

    def forward(self, integers: Tensor, scale: Tensor) -> Tensor:
        return integers * scale

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        integers, scale = quantized(weight, bits=8, dims=1)
        return integers.to(torch.int8), scale


def _rounded(network: nn.Module, images: Tensor, path: Path) -> nn.Module:
    """The network with int8 weights. RunError if too many images change their class."""
    rounded = copy.deepcopy(network)
    for layer in list(rounded.modules()):
        if isinstance(layer, LAYERS):
            parametrize.register_parametrization(layer, "weight", _Int8())
    same = same_class(rounded(images), network(images))
    if same < SAME_CLASS:
        raise RunError(
            f"{path} was not written: int8 changes the class of {1 - same:.0%} of random images "
            f"(allowed: {1 - SAME_CLASS:.0%}); export without `int8`"
        )
    return rounded


def _onnx(network: nn.Module, images: Tensor, output: str) -> bytes:
    from onnx_ir import DataType, Node
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from onnxscript.optimizer import optimize_ir

    def should_fold(node: Node) -> bool | None:
        """Not int8 weights, which would become float32; of all else onnxscript decides."""
        kinds = {value.dtype for value in node.inputs if value is not None}
        return False if DataType.INT8 in kinds else None

    program = torch.onnx.export(
        network,
        (images,),
        input_names=["images"],
        output_names=[output],
        opset_version=OPSET,
        dynamo=True,
        dynamic_shapes=({0: "batch"},),
        optimize=False,
        verbose=False,
    )
    assert program is not None
    optimize_ir(program.model, should_fold=should_fold)
    ClearMetadataAndDocStringPass()(program.model)  # among it the paths of source files
    return program.model_proto.SerializeToString()


def _pt2(network: nn.Module, images: Tensor) -> bytes:
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (images,), dynamic_shapes=shapes, strict=False)
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)  # with the paths of source files
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue()
