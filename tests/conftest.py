import signal

import pytest
import torch

# Those that are ignored in the background of a shell, and behind nohup: the tests of signals, and
# what they start, must hear them.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)


@pytest.fixture(
    scope="session", params=["cpu", *["cuda"] * torch.cuda.is_available()], ids=lambda name: name
)
def device(request) -> torch.device:
    """The CPU and, where there is one, the GPU, with all bits of float32."""
    torch.backends.cudnn.allow_tf32 = False
    return torch.device(request.param)


@pytest.fixture(scope="session")
def dtype(device) -> torch.dtype:
    """For what must be equal: on a GPU what float32 rounds to depends on the batch's size."""
    return torch.float32 if device.type == "cpu" else torch.float64
