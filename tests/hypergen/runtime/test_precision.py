import threading

import pytest
import torch

from hypergen.runtime.precision import full_precision, half_precision


def settings() -> list[str]:
    cudnn = torch.backends.cudnn
    return [part.fp32_precision for part in (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)]


@pytest.fixture(autouse=True)
def tf32():
    """TF32 switched on, and afterwards what it was."""
    cudnn = torch.backends.cudnn
    parts = torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn
    before = settings()
    for part in parts:
        part.fp32_precision = "tf32"
    yield
    for part, value in zip(parts, before, strict=True):
        part.fp32_precision = value


def test_tf32_is_off_inside_and_as_before_afterwards():
    before = settings()
    assert before == ["tf32"] * 3
    with pytest.raises(KeyError), full_precision():
        assert settings() == ["ieee"] * 3
        with full_precision():
            assert settings() == ["ieee"] * 3
        assert settings() == ["ieee"] * 3
        raise KeyError
    assert settings() == before

    @full_precision()
    def inside() -> list[str]:
        return settings()

    assert inside() == ["ieee"] * 3 and settings() == before


def test_it_stays_off_while_any_thread_is_inside():
    entered, leave, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        with full_precision():
            entered.set()
            leave.wait()
            seen.append(settings())

    thread = threading.Thread(target=other)
    with full_precision():
        thread.start()
        entered.wait()
    assert settings() == ["ieee"] * 3
    leave.set()
    thread.join()
    assert seen == [["ieee"] * 3] and settings() == ["tf32"] * 3


def test_a_gpu_computes_as_its_setting_says(device):
    values = torch.rand(64, 64, generator=torch.Generator().manual_seed(0)).to(device)
    exact = values.double() @ values.double()
    with full_precision():
        off = (values @ values - exact).abs().max() / exact.max()
    assert off < 1e-6
    if device.type == "cuda":
        assert (values @ values - exact).abs().max() / exact.max() > 1e-5


def test_half_precision_is_for_gpus_alone(device):
    layer = torch.nn.Linear(3, 2).to(device)
    with half_precision(device):
        dtype = layer(torch.rand(4, 3, device=device)).dtype
    assert dtype == (torch.bfloat16 if device.type == "cuda" else torch.float32)
