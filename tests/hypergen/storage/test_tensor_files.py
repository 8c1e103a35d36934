import os
import signal
import stat
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

from hypergen.storage.tensor_files import (
    PART,
    copied,
    passing,
    read_header,
    read_tensors,
    require_file,
    write_tensors,
)

TENSORS = {"a": torch.arange(6.0).view(2, 3), "b": torch.zeros(0, 4, dtype=torch.int64)}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "t.safetensors"
    write_tensors(path, TENSORS, {"who": "us"})
    return path


def test_tensors_and_texts_come_back(file):
    tensors, texts = read_tensors(file)
    assert texts == {"who": "us"} and tensors.keys() == TENSORS.keys()
    assert all(tensors[name].equal(TENSORS[name]) for name in TENSORS)
    shapes, again = read_header(file)
    assert shapes == {"a": (2, 3), "b": (0, 4)} and again == texts


def test_files_have_the_mode_that_the_umask_gives(tmp_path, umask):
    write_tensors(tmp_path / "t", TENSORS, {})
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == umask


def test_nothing_else_is_left_in_the_folder(file):
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_failed_write_keeps_the_old_file(file, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("disk full")

    before = file.read_bytes()
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(file, TENSORS, {})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_what_a_kill_leaves_of_the_librarys_own_file_is_removed(file, monkeypatch):
    """safetensors writes to a file of a random name first, in the folder that it is given."""

    def killed(_, path, *__):
        Path(path).with_name(".tmp69yLwW").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)

    before = file.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(safetensors.torch, "save_file", killed)
        if not (child := os.fork()):
            try:
                write_tensors(file, TENSORS, {})
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert file.read_bytes() == before and len(list(file.parent.rglob("*"))) > 1
    write_tensors(file, TENSORS, {})
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_is_an_error_of_the_system(file, monkeypatch):
    def fail(*args):
        raise SafetensorError("I/O error: No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match=f"{file}.*No space left"):
        write_tensors(file, TENSORS, {})


def test_tied_and_strided_tensors_can_be_written(tmp_path):
    weight = torch.arange(6.0).view(2, 3)
    write_tensors(tmp_path / "n", {"a": weight, "b": weight, "c": weight.T}, {})
    tensors, _ = read_tensors(tmp_path / "n")
    assert tensors["b"].equal(weight) and tensors["c"].equal(weight.T)


def test_plain_tensors_are_not_copied_to_be_written(tmp_path, monkeypatch):
    given: dict[str, torch.Tensor] = {}
    write = safetensors.torch.save_file

    def save_file(plain, *others):
        given.update(plain)
        write(plain, *others)

    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    weight = torch.arange(6.0)
    write_tensors(tmp_path / "n", {"a": weight, "b": weight[:3]}, {})
    assert given["a"].data_ptr() == weight.data_ptr() != given["b"].data_ptr()


def test_other_bytes_are_refused(file, refused):
    whole = file.read_bytes()
    for content in (b"", b"plain text, and not a short one", whole[:50], whole[:-7]):
        file.write_bytes(content)
        for read in (read_header, read_tensors):
            assert "not a safetensors file, or damaged" in refused(read, file)


def test_any_damage_is_told_in_one_line(file, refused):
    """Every byte of the header, changed in several ways."""
    whole = file.read_bytes()
    for index in range(len(whole) - 24):
        for bit in (1, 32, 128):
            file.write_bytes(whole[:index] + bytes([whole[index] ^ bit]) + whole[index + 1 :])
            try:
                tensors, _ = read_tensors(file)
            except Exception:
                assert str(file) in refused(read_tensors, file)
            else:  # a name, a text, or numbers that can be read some other way
                assert len(tensors) <= 2


def test_the_true_reason_is_told(tmp_path, loop, refused, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    long = tmp_path / ("x" * 300)
    for path, reason in (
        (tmp_path / "none", "there is no file"),
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "no ordinary file"),
        (loop, "symbolic links"),
        (long, "name is too long"),
    ):
        for read in (read_header, read_tensors):
            message = refused(read, path)
            assert reason in message and str(path)[:60] in message
    monkeypatch.setenv("HOME", str(tmp_path))
    write_tensors(tmp_path / "t", TENSORS, {})
    assert require_file(type(long)("~/t")) == tmp_path / "t"
    assert read_header(type(long)("~/t"))[0].keys() == TENSORS.keys()


@pytest.mark.skipif(os.geteuid() == 0, reason="everything is permitted to root")
def test_a_file_that_may_not_be_read_is_there(file, refused):
    file.chmod(0)
    assert "Permission denied" in refused(read_tensors, file)


@pytest.mark.parametrize("count", [0, 1, PART - 1, PART, PART + 3])
def test_parts_are_the_whole_in_order_and_stay_as_they_are(count):
    tensor = torch.arange(count, dtype=torch.uint8)
    assert torch.cat(list(passing(tensor))).equal(torch.arange(count, dtype=torch.uint8))
    assert tensor.equal(torch.arange(count, dtype=torch.uint8))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep the parts")
def test_a_large_file_is_read_and_taken_over_in_the_memory_of_a_part(tmp_path):
    def resident() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    own = {"large": torch.zeros(3 * PART, dtype=torch.uint8) + 1}  # whose memory is there
    write_tensors(tmp_path / "t", {"large": torch.full((3 * PART,), 7, dtype=torch.uint8)}, {})
    given, _ = read_tensors(tmp_path / "t", mapped=True)
    first = resident()
    list(passing(given["large"]))
    if resident() - first > 2 * PART:
        pytest.skip("this system keeps what it was told is not needed")
    before = resident()
    taken = copied(given, own)
    assert resident() - before < 1.5 * PART
    assert taken["large"] is own["large"] and bool((own["large"] == 7).all())
    assert bool((given["large"] == 7).all())  # it is read again


def test_only_alike_tensors_are_taken_over_in_parts():
    large = torch.zeros(PART + 1, dtype=torch.uint8)
    others = {"shape": large[1:], "dtype": large.to(torch.int8), "small": torch.zeros(4)}
    state = {"shape": large, "dtype": large, "small": torch.ones(4), "unknown": large}
    taken = copied(state, others)
    assert all(taken[name] is state[name] for name in state) and taken.keys() == state.keys()
