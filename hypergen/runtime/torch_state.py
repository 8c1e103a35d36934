"""PyTorch's global switches, which belong to the user: whatever they are, results are the same."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def usual_state() -> Iterator[None]:
    """Inside, new tensors are float32 and may have gradients; afterwards all is as it was.

    So is the global random state of Python, of NumPy, of the CPU and of the current GPU, whatever
    is drawn inside: scikit-learn draws while it is imported. It serves as a decorator too.
    """
    dtype = torch.get_default_dtype()
    python, numpy = random.getstate(), np.random.get_state()
    current = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    torch.set_default_dtype(torch.float32)
    try:
        with torch.random.fork_rng(current), torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_default_dtype(dtype)
