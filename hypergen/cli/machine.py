"""Options that every command has: where the data are, what computes, whose code is loaded."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hypergen import data
from hypergen.budget import parse_size
from hypergen.config import DataConfig
from hypergen.data import Dataset
from hypergen.registry import loaded
from hypergen.runtime.device import choose_device
from hypergen.settings import Settings


@dataclass(frozen=True)
class Machine(Settings):
    """Where the data are, what computes, and what of your own is loaded."""

    data_dir: Path | None = None
    """folder of the data sets; by default HYPERGEN_DATA, else ~/.cache/hypergen"""
    device: str = "auto"
    """auto, cpu or cuda"""
    memory: str | None = None
    """what to stay within, such as 4GiB or 1500MB: all of the process on a CPU, what chunks keep on
    a GPU; by default half of what is free there, and most of a GPU"""
    plugin: tuple[str, ...] = ()
    """your own code, FILE.py or package.module, run to register targets, activations, data sets,
    attacks and the like, besides what HYPERGEN_PLUGINS names; repeatable"""

    def require(self) -> None:
        if self.memory is not None:
            parse_size(self.memory)

    @property
    def chosen(self) -> torch.device:
        """The device; `InputError`: no such, or none here."""
        return choose_device(self.device)

    def command(self, *words: str) -> list[str]:
        """The words of a hypergen command that finds the same data sets and the same own code."""
        folder = () if self.data_dir is None else ("--data-dir", str(self.data_dir))
        plugins = [word for plugin in loaded() for word in ("--plugin", plugin.source)]
        return ["hypergen", *words, *folder, *plugins]

    def load(self, images: DataConfig, device: torch.device | str) -> Dataset:
        """The data set on a device. `InputError` where it cannot be loaded."""
        return data.load(images.name, self.data_dir, device, images.image_size, images.grey)
