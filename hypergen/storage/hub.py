"""Networks as folders of the Hugging Face hub: model.safetensors, config.json and README.md."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import targets
from hypergen.catalog import ACTIVATIONS, TARGETS
from hypergen.errors import InputError
from hypergen.storage.atomic import write_json, write_text
from hypergen.storage.folders import CONFIG
from hypergen.storage.impersonal import impersonal_tree
from hypergen.storage.metadata import REQUIRED
from hypergen.storage.weights import read_network, save_network

if find_spec("huggingface_hub") is None:
    raise InputError('this needs the package huggingface_hub: pip install "hypergen[hub]"')
from huggingface_hub import PyTorchModelHubMixin

WEIGHTS, CARD = "model.safetensors", "README.md"


class HubModel(nn.Module, PyTorchModelHubMixin, library_name="hypergen"):
    """A network as the Hugging Face hub has it: `HubModel.from_pretrained(FOLDER or REPOSITORY)`.

    Images [B,C,H,W] in [0,1] -> logits [B,K]. Its state_dict is that of `network`, the target
    itself. A target or an activation of a plugin is known once the plugin is loaded; none is here.

    Args:
        target, activation: names, as of `hypergen list`.
        num_classes: K; input_shape: (C,H,W).

    Raises:
        InputError: an unknown target or activation.
    """

    def __init__(
        self, target: str, activation: str, num_classes: int, input_shape: Sequence[int]
    ) -> None:
        super().__init__()
        TARGETS.get(target)
        ACTIVATIONS.get(activation)
        channels, height, width = input_shape
        with torch.random.fork_rng(devices=[]):  # the weights are replaced
            shape = (channels, height, width)
            self.network = targets.build(target, activation, num_classes, shape)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B,K] of images [B,C,H,W]."""
        return self.network(images)

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own, so that plain PyTorch can load the file."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Fills the network."""
        return self.network.load_state_dict(state_dict, strict, assign)


def save_to_hub_folder(folder: Path, file: Path, card: str) -> None:
    """Writes the network of a weight file of ours as `HubModel` loads it, and its card."""
    state, metadata = read_network(file)
    built = {name: metadata[name] for name in REQUIRED if name != "layout"}
    folder.mkdir(parents=True, exist_ok=True)
    save_network(folder / WEIGHTS, state, impersonal_tree(metadata))
    write_json(folder / CONFIG, built)
    write_text(folder / CARD, card)
