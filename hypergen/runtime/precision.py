"""How many bits a GPU computes with: few to train where these are enough, all to measure."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0
_before: list[Any] = []


def half_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Inside, a GPU uses 16 bits where these are enough; for training alone, never to measure."""
    on = device.type == "cuda"
    # Without its cache: what is captured as a CUDA graph must not depend on what came before.
    return torch.autocast(device.type, torch.bfloat16, enabled=on, cache_enabled=False)


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
