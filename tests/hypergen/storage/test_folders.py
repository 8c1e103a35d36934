from pathlib import Path

from hypergen.storage.folders import expanded, is_empty, require_folder


def test_a_tilde_is_the_home(monkeypatch, tmp_path, refused):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == expanded(Path("~/x")) == tmp_path / "x"
    assert expanded("a/~") == Path("a/~")
    assert "no such home folder" in refused(expanded, "~nobody-of-this-name/x")


def test_a_folder_that_can_be_made_will_do(tmp_path, refused):
    require_folder(tmp_path)
    require_folder(tmp_path / "a" / "b")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    assert "file is not a folder" in refused(require_folder, tmp_path / "file")
    assert "file is not a folder" in refused(require_folder, tmp_path / "file" / "a")


def test_locks_and_leftovers_are_nothing(tmp_path, dead):
    assert is_empty(tmp_path) and is_empty(tmp_path / "none")
    (tmp_path / ".lock").touch()
    (tmp_path / f".config.json.{dead}.part").touch()
    assert is_empty(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    (tmp_path / "file").touch()
    assert not is_empty(tmp_path)
