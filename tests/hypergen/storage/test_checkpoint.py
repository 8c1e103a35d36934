import copy
import math
import struct
from collections import OrderedDict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hypergen.storage import checkpoint
from hypergen.storage.tensor_files import read_tensors, write_tensors
from hypergen.storage.weights import save_network


def same(a: Any, b: Any) -> bool:
    """Equal in type and in every bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return (
            a.dtype == b.dtype
            and a.shape == b.shape
            and a.contiguous().view(-1).view(torch.uint8).equal(b.view(-1).view(torch.uint8))
        )
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, dict):
        return list(map(typed, a)) == list(map(typed, b)) and same(
            list(a.values()), list(b.values())
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def typed(key: Any) -> tuple[type, Any]:
    return type(key), key


def round_trip(tree: Any) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        checkpoint.save(path, tree)
        return checkpoint.load(path)


@st.composite
def tensors(draw) -> Tensor:
    dtype = draw(
        st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.uint8, torch.int64])
    )
    shape = draw(st.lists(st.integers(0, 3), max_size=3))
    count = math.prod(shape) * dtype.itemsize
    # Any bits at all, so every NaN and subnormal too.
    bits = torch.tensor(list(draw(st.binary(min_size=count, max_size=count))), dtype=torch.uint8)
    tensor = bits.view(dtype).view(shape)
    return tensor.T if tensor.ndim == 2 and draw(st.booleans()) else tensor


KEYS = st.one_of(st.text(), st.integers(), st.booleans(), st.none(), st.tuples(st.integers()))
TREES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), tensors()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(TREES)
def test_every_tree_comes_back_bit_for_bit(tree):
    assert same(tree, round_trip(tree))


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_training_goes_on_as_if_never_stopped(kind, tmp_path):
    torch.manual_seed(0)
    module = torch.nn.Linear(5, 3)
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    optimizer = kind(module.parameters(), lr=0.1, **options)
    rng = torch.Generator().manual_seed(1)

    def steps(module, optimizer, rng):
        for _ in range(3):
            optimizer.zero_grad()
            module(torch.randn(4, 5, generator=rng)).square().sum().backward()
            optimizer.step()
        return module.weight

    steps(module, optimizer, rng)
    state = {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": rng.get_state(),
        "step": 3,
    }
    checkpoint.save(tmp_path / "c", copy.deepcopy(state))
    expected = steps(module, optimizer, rng).clone()

    loaded = checkpoint.load(tmp_path / "c")
    module = torch.nn.Linear(5, 3)
    module.load_state_dict(loaded["module"])
    optimizer = kind(module.parameters(), lr=0.5)
    optimizer.load_state_dict(loaded["optimizer"])
    rng = torch.Generator()
    rng.set_state(loaded["rng"])
    assert steps(module, optimizer, rng).equal(expected)


def test_shared_tensors_parameters_and_ordered_dicts():
    shared = torch.nn.Parameter(torch.ones(2, 2))
    tree = OrderedDict(a=shared, b=[shared, shared[0]])
    loaded = round_trip(tree)
    assert same(loaded, {"a": torch.ones(2, 2), "b": [torch.ones(2, 2), torch.ones(2)]})


def test_what_two_parts_share_is_written_once(tmp_path):
    shared, alike = torch.ones(1000), torch.ones(1000)
    checkpoint.save(tmp_path / "shared", [shared, {"a": shared.detach()}])
    checkpoint.save(tmp_path / "apart", [shared, {"a": alike}])
    (tensors, _), (both, _) = (read_tensors(tmp_path / name) for name in ("shared", "apart"))
    assert len(tensors) == 1 and len(both) == 2
    assert same(checkpoint.load(tmp_path / "shared"), [shared, {"a": alike}])


@pytest.mark.parametrize("other", [{1, 2}, b"bytes", 1j, object(), {"a": [torch.float32]}])
def test_anything_else_is_refused_and_nothing_written(other, tmp_path):
    with pytest.raises(TypeError, match="a checkpoint cannot hold a"):
        checkpoint.save(tmp_path / "c", other)
    assert not list(tmp_path.iterdir())


def test_what_was_loaded_outlives_its_file(tmp_path):
    path = tmp_path / "checkpoint"
    checkpoint.save(path, torch.arange(5_000.0))
    loaded = checkpoint.load(path)
    path.write_bytes(bytes(path.stat().st_size))
    assert loaded.equal(torch.arange(5_000.0))


def test_damaged_and_external_files_are_refused(tmp_path, refused):
    path = tmp_path / "checkpoint"
    checkpoint.save(path, {"a": torch.arange(100), "b": [1.5, None]})
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04 a zip file, perhaps", whole[:20], whole[:-1]):
        path.write_bytes(content)
        assert "not a safetensors file, or damaged" in refused(checkpoint.load, path)
    save_network(path, {"a": torch.zeros(2)}, {})
    assert "not a checkpoint" in refused(checkpoint.load, path)
    assert "no file" in refused(checkpoint.load, tmp_path / "none")


def test_any_change_is_told(tmp_path, refused):
    """Of a bit of a number, of the tree, of a tensor's name, type and shape."""
    path = tmp_path / "checkpoint"
    tree = {"step": 7, "weights": torch.arange(6.0).view(2, 3), "count": torch.ones(6).int()}
    checkpoint.save(path, tree)
    whole = path.read_bytes()
    for index in range(8, len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        try:
            found = checkpoint.load(path)
        except Exception:
            assert str(path) in refused(checkpoint.load, path)
        else:  # a byte that says nothing, such as a space
            assert same(found, tree)


def test_a_tensor_that_is_gone_or_another_tree_is_told(tmp_path, refused):
    path = tmp_path / "checkpoint"
    checkpoint.save(path, {"step": 7, "weights": torch.arange(6.0)})
    tensors, header = read_tensors(path)
    write_tensors(path, {}, header)
    assert "is damaged" in refused(checkpoint.load, path)
    write_tensors(path, tensors, {name: text.replace("7", "8") for name, text in header.items()})
    assert "is damaged" in refused(checkpoint.load, path)
    write_tensors(path, tensors, {name: text for name, text in header.items() if "sha" not in name})
    assert "is damaged" in refused(checkpoint.load, path)


def test_what_does_not_fit_is_refused_with_its_cause(tmp_path, refused):
    path = tmp_path / "checkpoint"
    checkpoint.save(path, torch.nn.Linear(2, 3).state_dict())
    with pytest.raises(ValueError, match="of another training") as caught:
        checkpoint.restore(path, torch.nn.Linear(3, 3).load_state_dict)
    assert "size mismatch" in str(caught.value.__cause__)
    for wanted in (lambda tree: tree["step"], lambda tree: tree.step, lambda tree: tree + 1):
        assert "of another training" in refused(checkpoint.restore, path, wanted)


@pytest.mark.parametrize("limit", [torch.OutOfMemoryError("CUDA out of memory"), None])
def test_too_little_memory_is_no_fault_of_the_file(limit, tmp_path):
    path = tmp_path / "checkpoint"
    checkpoint.save(path, {})

    def too_much(tree):
        if limit is None:
            torch.empty(2**60)  # what a CPU raises
        raise limit

    with pytest.raises(RuntimeError, match="memory"):
        checkpoint.restore(path, too_much)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_an_optimizer_of_other_parameters_is_refused(kind, tmp_path, refused):
    """PyTorch takes its state and fails at the next step."""

    def optimizer(features):
        module = torch.nn.Linear(features, 3)
        made = kind(module.parameters())
        module(torch.rand(2, features)).sum().backward()
        made.step()
        return made

    path = tmp_path / "checkpoint"
    checkpoint.save(path, optimizer(5).state_dict())
    for features, fits in ((5, True), (4, False)):
        fresh = optimizer(features)
        load = partial(checkpoint.load_optimizer, fresh)
        if fits:
            checkpoint.restore(path, load)
        else:
            assert "of another training" in refused(checkpoint.restore, path, load)


@pytest.fixture
def optimizer() -> torch.optim.Optimizer:
    """Adam after its first step."""
    module = torch.nn.Linear(2, 3)
    made = torch.optim.Adam(module.parameters())
    module(torch.rand(2, 2)).sum().backward()
    made.step()
    return made


def drop(moments):
    del moments["exp_avg"]


@pytest.mark.parametrize(
    "change",
    [
        lambda moments: moments.update(exp_avg=[[]]),
        lambda moments: moments.update(exp_avg=None),
        lambda moments: moments.update(exp_avg=torch.zeros(1)),
        lambda moments: moments.update(others=moments.pop("exp_avg")),
        drop,
    ],
)
def test_an_optimizer_of_other_moments_is_refused(change, optimizer):
    state = optimizer.state_dict()
    checkpoint.load_optimizer(optimizer, state)
    change(state["state"][0])
    with pytest.raises(ValueError, match="the optimizer's state has"):
        checkpoint.load_optimizer(optimizer, state)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state["state"].update({9: state["state"][0]}),
        lambda state: state["param_groups"][0]["params"].append(9),
        lambda state: state["param_groups"].clear(),
    ],
)
def test_an_optimizer_of_more_or_fewer_parameters_is_refused(change, optimizer):
    state = optimizer.state_dict()
    change(state)
    with pytest.raises(ValueError, match="the optimizer's state has"):
        checkpoint.load_optimizer(optimizer, state)


def test_settings_of_an_optimizer_are_those_that_it_was_made_with(optimizer):
    state = optimizer.state_dict()
    state["param_groups"][0].update(amsgrad=True, lr=7.0)
    del state["param_groups"][0]["betas"]
    checkpoint.load_optimizer(optimizer, state)
    group = optimizer.param_groups[0]
    assert (group["amsgrad"], group["lr"], group["betas"]) == (False, 0.001, (0.9, 0.999))
    optimizer.step()


def private_memory() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc to ask")
def test_a_large_state_takes_no_memory_beside_what_takes_it_over(tmp_path):
    path, size = tmp_path / "c", 64 * 2**20
    checkpoint.save(path, {"w": torch.ones(size // 4)})
    own, before = torch.zeros(size // 4).add_(2), private_memory()
    checkpoint.restore(path, lambda state: own.copy_(state["w"]))
    assert private_memory() - before < size / 4
    assert float(own.sum()) == size / 4
    checkpoint.restore(path, lambda state: state["w"].zero_())  # which nobody else sees
    assert checkpoint.load(path)["w"].equal(own)
