import threading

import pytest
import torch

from hypergen.errors import InputError
from hypergen.runtime import precision
from hypergen.runtime.precision import chosen_precision, full_precision, multiplying_in


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


@pytest.mark.parametrize(("asked", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_what_multiplies_does_so_as_asked(asked, dtype, device):
    layer = torch.nn.Linear(3, 2).to(device)
    with multiplying_in(asked, device):
        assert layer(torch.rand(4, 3, device=device)).dtype == dtype
    assert layer(torch.rand(4, 3, device=device)).dtype == torch.float32


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("gains", [False, True])
def test_auto_takes_few_bits_where_they_gain(fast, gains, monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: fast)
    found = chosen_precision("auto", torch.device("cpu"), gains)
    assert found == ("bf16" if fast and gains else "float32")
    assert chosen_precision("auto", torch.device("cuda"), gains) == "bf16"
    assert chosen_precision("float32", torch.device("cuda"), gains) == "float32"


def test_a_cpu_without_instructions_refuses(monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    with pytest.raises(InputError, match="no instructions"):
        chosen_precision("bf16", torch.device("cpu"), True)
    assert chosen_precision("bf16", torch.device("cuda"), True) == "bf16"
