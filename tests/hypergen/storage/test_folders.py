from pathlib import Path

import pytest

from hypergen.storage.folders import expanded, is_empty, require_folder


def test_a_tilde_is_the_home(monkeypatch, tmp_path, refused):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == expanded(Path("~/x")) == tmp_path / "x"
    assert expanded("a/~") == Path("a/~")
    assert "no such home folder" in refused(expanded, "~nobody-of-this-name/x")


@pytest.mark.parametrize("thing", [b"run", None, 3, ["run"]])
def test_what_is_no_path(thing, refused):
    assert refused(expanded, thing) == f"expected a path, got a {type(thing).__name__}"


def test_a_folder_that_can_be_made_will_do(tmp_path, refused):
    require_folder(tmp_path)
    require_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert "file is not a folder" in refused(require_folder, tmp_path / "file")
    assert "file is not a folder" in refused(require_folder, tmp_path / "file" / "a")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "expected a path, got an empty text; the current folder is called ."),
        ("\udcff", r"'\udcff' is no path in UTF-8"),
        (Path("a\udcff/b"), r"'a\udcff/b' is no path in UTF-8"),
        ("a\0b", r"'a\x00b' is no path in UTF-8"),
        ("a" * 256, "a" * 60 + "...: the name is too long"),
        ("a/" * 3000, "a/" * 30 + "...: the name is too long"),
    ],
    ids=["empty", "bytes", "bytes in a path", "zero", "long name", "long path"],
)
def test_names_that_no_file_can_have(path, message, refused):
    assert refused(expanded, path) == message


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="there is no /proc")
@pytest.mark.parametrize("path", ["/proc", "/proc/x", "/proc/1/x/y"])
def test_a_folder_in_which_no_file_can_be_made(path, refused):
    assert "cannot be written to" in refused(require_folder, Path(path))


def test_a_link_to_nowhere_is_no_folder(tmp_path, refused):
    (tmp_path / "link").symlink_to(tmp_path / "none")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("link", "link/a", "loop", "loop/a"):
        assert "is not a folder; choose another `out`" in refused(require_folder, tmp_path / name)


def test_locks_and_leftovers_are_nothing(tmp_path, dead):
    assert is_empty(tmp_path) and is_empty(tmp_path / "none")
    (tmp_path / ".lock").touch()
    (tmp_path / f".config.json.{dead}.part").touch()
    assert is_empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (tmp_path / "file").touch()
    assert not is_empty(tmp_path)
