import errno
import json
import os
import stat
import threading

import pytest

from hypergen.storage import atomic
from hypergen.storage.atomic import read_json, remove_leftovers, replacing, write_json, write_text


def mode(path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_written_file_replaces_the_old_one_and_links_stay(tmp_path):
    file, link = tmp_path / "file", tmp_path / "link"
    link.symlink_to(file)
    for text in ("old", "new\n"):
        write_text(link, text)
        assert link.is_symlink() and file.read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link"}


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path, error):
    file = tmp_path / "file"
    write_text(file, "old")
    with pytest.raises(error), replacing(file) as part:
        part.write_text("half of")
        raise error
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_files_have_the_mode_that_the_umask_gives(tmp_path, umask):
    file = tmp_path / "file"
    write_text(file, "")
    assert mode(file) == umask
    with replacing(file) as part:  # as by a library that makes a file of its own
        part.unlink()
        os.close(os.open(part, os.O_CREAT, 0o600))
    assert mode(file) == umask


def test_what_a_kill_left_is_removed_by_the_next_writer(tmp_path, dead):
    file = tmp_path / "file"
    for round in range(2):  # also by one that has written there before
        left = tmp_path / f".file.{dead}.part"
        running, other = tmp_path / f".file.{os.getppid()}.part", tmp_path / ".file.x.part"
        for path in (left, running, other):
            path.write_text("half of")
        write_text(file, str(round))
        assert sorted(tmp_path.iterdir()) == sorted([file, running, other])


def test_leftovers_of_every_file_of_a_folder_are_removed(tmp_path, dead):
    for name in ("a.json", "b [1].safetensors", "config.json"):
        (tmp_path / f".{name}.{dead}.part").touch()
    remove_leftovers(tmp_path)
    remove_leftovers(tmp_path / "none")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_nobody_else_changed_is_not_searched_again(tmp_path, monkeypatch):
    searched = []
    write_text(tmp_path / "a", "")
    monkeypatch.setattr(atomic, "remove_leftovers", searched.append)
    for index in range(5):
        write_text(tmp_path / str(index), "")
    assert not searched
    (tmp_path / "another's").touch()
    write_text(tmp_path / "b", "")
    assert searched == [tmp_path]


def test_threads_that_write_different_files_do_not_meet(tmp_path):
    def write(name):
        for count in range(20):
            write_text(tmp_path / name, str(count))

    threads = [threading.Thread(target=write, args=(str(index),)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {path.read_text() for path in tmp_path.iterdir()} == {"19"}
    assert len(list(tmp_path.iterdir())) == 4


def test_an_error_of_the_system_names_the_file(tmp_path):
    file = tmp_path / "file"
    for error in (OSError(errno.ENOSPC, "No space left"), OSError(errno.EIO, "I/O", "part")):
        with pytest.raises(OSError) as caught, replacing(file) as part:
            if error.filename:
                error.filename = str(part)
            raise error
        assert caught.value.filename == str(file)
    with pytest.raises(OSError) as caught:
        write_text(tmp_path / "none" / "file", "")
    assert caught.value.filename == str(tmp_path / "none" / "file")


def test_json_comes_back(tmp_path):
    file, tree = tmp_path / "a.json", {"ü": [1, 0.1, None, {"x": "\n"}], "big": 10**30}
    write_json(file, tree)
    assert read_json(file) == tree == json.loads(file.read_text())
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())  # as some editors save it
    assert read_json(file) == tree


def test_a_file_name_that_is_no_text_can_be_written(tmp_path):
    write_text(tmp_path / "a", os.fsdecode(b"caf\xe9"))
    assert (tmp_path / "a").read_text() == "caf\\udce9"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"\0",
        b"{'a': 1}",
        b"[1]",
        b"3",
        b"null",
        b"[" * 100_000,
        b"1" * 5000,
    ],
)
def test_json_that_is_none_is_refused(tmp_path, content, refused):
    file = tmp_path / "a.json"
    file.write_bytes(content)
    assert f"{file} is damaged" in refused(read_json, file)


def test_what_cannot_be_read_is_told_with_its_reason(tmp_path, loop, refused):
    assert "No such file" in refused(read_json, tmp_path / "none")
    assert "Is a directory" in refused(read_json, tmp_path)
    assert "symbolic links" in refused(read_json, loop)
