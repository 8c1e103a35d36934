"""Of a training the last two checkpoints are kept; a damaged newest one is told and left aside."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from hypergen.errors import InputError
from hypergen.storage import checkpoint
from hypergen.storage.atomic import former
from tests.hypergen.storage.test_checkpoint import same


def tree(step: int) -> dict[str, Any]:
    """The state of a training after some steps."""
    rng = torch.Generator().manual_seed(step)
    moments = {0: {"step": torch.tensor(float(step)), "exp_avg": torch.rand(3, generator=rng)}}
    return {"step": step, "rng": rng.get_state(), "optimizer": {"state": moments}, "best": 0.5}


@pytest.fixture
def path(tmp_path) -> Path:
    """The newest of three checkpoints."""
    for step in (1, 2, 3):
        checkpoint.save(tmp_path / "c.safetensors", tree(step))
    return tmp_path / "c.safetensors"


def damages(whole: bytes, rng: Random) -> Iterator[bytes]:
    """The file with a bit changed, in bytes sampled all over it, and cut short."""
    for index in [*range(16), *rng.sample(range(len(whole)), 150)]:
        flipped = whole[index] ^ (1 << rng.randrange(8))
        yield whole[:index] + bytes([flipped]) + whole[index + 1 :]
    for length in [0, 1, 8, len(whole) - 1, *rng.sample(range(len(whole)), 30)]:
        yield whole[:length]
    yield whole + b"\0"
    yield bytes(len(whole))


def test_the_last_two_are_kept(path):
    assert same(checkpoint.load(path), tree(3)) and same(checkpoint.load(former(path)), tree(2))
    assert sorted(path.parent.iterdir()) == [path, former(path)]


def test_a_damaged_one_never_goes_on_in_silence(path):
    """Either the very state comes back, or the one before, which is told, or neither."""
    whole, before, rng = path.read_bytes(), former(path).read_bytes(), Random(0)
    fell_back = 0
    for damaged in damages(whole, rng):
        path.write_bytes(damaged)
        with pytest.warns() if not is_whole(path) else nothing():
            found = checkpoint.load(path)
        expected = 3 if is_whole(path) else 2
        assert same(found, tree(expected))
        fell_back += expected == 2
    assert fell_back > 180
    path.write_bytes(whole[:-1])
    for damaged in damages(before, rng):
        former(path).write_bytes(damaged)
        if is_whole(former(path)):
            continue
        with pytest.raises(InputError) as told:
            checkpoint.load(path)
        assert f"{path} and the checkpoint before it, {former(path)}, are damaged" in str(
            told.value
        )


def is_whole(path: Path) -> bool:
    """Whether the file alone gives the tree that was written to it.

    A byte may say nothing, as a space between two words of the header does.
    """
    alone = path.with_name("alone")
    alone.write_bytes(path.read_bytes())
    try:
        found = checkpoint.load(alone)
    except InputError:
        return False
    assert same(found, tree(found["step"]))
    return True


@contextmanager
def nothing():
    yield


def test_the_one_before_is_told_by_name(path):
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(UserWarning) as told:
        checkpoint.load(path)
    assert str(told[0].message) == (
        f"cannot read {path}: not a safetensors file, or damaged; {former(path)}, the checkpoint "
        "before it, is used"
    )


def test_a_missing_one_is_as_a_damaged_one(path):
    path.unlink()
    assert checkpoint.exists(path)
    with pytest.warns(UserWarning, match="there is no file"):
        assert same(checkpoint.load(path), tree(2))
    checkpoint.remove(path)
    assert not checkpoint.exists(path) and not [*path.parent.iterdir()]


def test_a_damaged_one_does_not_push_out_the_one_before(path):
    path.write_bytes(b"damaged")
    taken = []
    with pytest.warns(UserWarning, match="is used"):
        checkpoint.resume(path, taken.append)
    assert same(taken, [tree(2)])
    assert same(checkpoint.load(path), tree(2))
    checkpoint.save(path, tree(3))
    assert same(checkpoint.load(former(path)), tree(2))


def test_a_sound_one_is_resumed_without_a_word(path, recwarn):
    taken = []
    checkpoint.resume(path, taken.append)
    assert same(taken, [tree(3)]) and not recwarn.list
    assert same(checkpoint.load(former(path)), tree(2))


def refuse(*_: Any) -> None:
    raise OSError("no links here")


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
@pytest.mark.parametrize("call", range(6))
def test_a_writer_that_dies_anywhere_leaves_a_state(path, call, links, monkeypatch):
    """Before each of its calls of the system that change a name; then it is written anew."""
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    calls = iter(range(call, -100, -1))
    with monkeypatch.context() as patch:
        for place, name in ((os, "link"), (Path, "replace"), (Path, "unlink"), (os, "fsync")):
            whole = getattr(place, name)

            def dying(*args, whole=whole, **options):
                if next(calls) <= 0:  # also what would tidy up: nothing happens any more
                    raise SystemExit
                return whole(*args, **options)

            patch.setattr(place, name, dying)
        with pytest.raises(SystemExit):
            checkpoint.save(path, tree(4))
    monkeypatch.setattr("hypergen.storage.atomic._is_running", lambda process: False)
    if not path.exists():
        assert not links
        with pytest.warns(UserWarning, match="is used"):
            assert same(checkpoint.load(path), tree(3))
    else:
        found = checkpoint.load(path)
        assert same(found, tree(found["step"])) and found["step"] in (3, 4)
        assert checkpoint.load(former(path))["step"] in (2, 3)
    checkpoint.save(path, tree(5))
    assert same(checkpoint.load(path), tree(5))
    assert sorted(path.parent.iterdir()) == [path, former(path)]


def test_a_link_stays_and_its_file_is_kept_beside_it(tmp_path):
    place = tmp_path / "elsewhere"
    place.mkdir()
    (tmp_path / "c").symlink_to(place / "c")
    for step in (1, 2):
        checkpoint.save(tmp_path / "c", tree(step))
    assert sorted(path.name for path in place.iterdir()) == ["c", "c.previous"]
    (place / "c").write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="is used"):
        assert same(checkpoint.load(tmp_path / "c"), tree(1))
