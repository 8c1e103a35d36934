"""How many bits are computed with: few to train where these are enough, all to measure."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Literal

import torch

from hypergen.errors import InputError

Precision = Literal["float32", "bf16"]

_lock = threading.Lock()
_inside = 0
_before: list[Any] = []


def multiplying_in(
    precision: Precision, device: torch.device
) -> contextlib.AbstractContextManager[Any]:
    """Inside, matrices and convolutions multiply so: bf16 for training alone, never to measure.

    Weights, sums and whatever needs more bits keep those of float32.
    """
    # Without its cache: what is captured as a CUDA graph must not depend on what came before.
    on = precision == "bf16"
    return torch.autocast(device.type, torch.bfloat16, enabled=on, cache_enabled=False)


def chosen_precision(
    asked: Literal["auto", "float32", "bf16"], device: torch.device, gains: bool
) -> Precision:
    """What is trained in where `asked` is in the settings.

    gains: whether training in bf16 takes less time on a CPU with instructions for it; on a GPU it
    always does. `InputError`: bf16 is asked for where the CPU has no such instructions.
    """
    fast = device.type == "cuda" or cpu_has_bf16()
    if asked == "bf16" and not fast:
        raise InputError(
            '`precision` "bf16": this CPU has no instructions for it (avx512_bf16 or amx_bf16); '
            "leave it out, or use float32"
        )
    if asked == "auto":
        return "bf16" if fast and (gains or device.type == "cuda") else "float32"
    return asked


def cpu_has_bf16() -> bool:
    """Whether this machine's CPU multiplies numbers of bf16 by instructions of its own."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Inside, GPUs keep all bits of float32; afterwards everything is as it was.

    PyTorch would round what convolutions multiply to 10 bits (TF32), and with it whatever is
    measured. The setting belongs to the process: while any thread is inside, it holds for all.
    """
    global _inside, _before
    switches = _switches()
    with _lock:
        if _inside == 0:
            _before = [getattr(holder, name) for holder, name, _ in switches]
            for holder, name, off in switches:
                setattr(holder, name, off)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                for (holder, name, _), value in zip(switches, _before, strict=True):
                    setattr(holder, name, value)


def _switches() -> list[tuple[Any, str, Any]]:
    """What turns TF32 off: (object, attribute, value)."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(matmul, "fp32_precision"):  # since PyTorch 2.9
        return [(part, "fp32_precision", "ieee") for part in (matmul, cudnn.conv, cudnn.rnn)]
    return [(part, "allow_tf32", False) for part in (matmul, cudnn)]
