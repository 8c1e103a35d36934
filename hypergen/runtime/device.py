"""Chooses what computes."""

import platform
import re
from pathlib import Path

import torch

from hypergen.errors import InputError
from hypergen.registry import nearest
from hypergen.runtime.ranks import place

DEVICES = "auto", "cpu", "cuda"


def choose_device(name: str) -> torch.device:
    """The torch device for auto, cpu or cuda; `InputError` for another name, or none such here."""
    if name not in DEVICES:
        raise InputError(
            f'unknown device "{name}"{nearest(name, DEVICES)}; known: {", ".join(DEVICES)}'
        )
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError('`device` "cuda": there is no CUDA device here; use "cpu"')
    if name == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    together = place().count > 1  # one GPU each
    return torch.device("cuda", place().local) if together else torch.device("cuda")


def device_name(device: torch.device) -> str:
    """What times are told with: the GPU's name, or the CPU's model, else its kind."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    known = Path("/proc/cpuinfo")  # of Linux; elsewhere Python knows the kind alone
    found = re.search(r"model name\s*:\s*(.+)", known.read_text()) if known.exists() else None
    name = " ".join(found[1].split()) if found else platform.machine()
    return name if "CPU" in name else f"{name} CPU"
