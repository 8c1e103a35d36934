"""`hypergen explore`: what is refused before a page is served."""

import socket
from pathlib import Path

import pytest

from hypergen.cli import explore
from hypergen.cli.main import main


def refused(capsys, *arguments: str) -> str:
    """The one line that the command ends with, at status 2."""
    assert main(["explore", *arguments, "--no-open"]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    return shown.err


def test_a_missing_extra_is_told_before_anything_else(monkeypatch, capsys):
    monkeypatch.setattr(explore, "find_spec", lambda name: None)
    assert "pip install 'hypergen[explore]'" in refused(capsys, "nowhere")


def test_what_is_no_run_is_told(trained, capsys, tmp_path):
    pytest.importorskip("nicegui", reason="the extra `explore` is not installed")
    assert "nowhere is not a run" in refused(capsys, "nowhere")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_bytes((trained / "config.json").read_bytes())
    assert "has no checkpoint" in refused(capsys, str(unfinished))


def test_a_port_that_cannot_be_had_is_told(trained: Path, capsys):
    pytest.importorskip("nicegui", reason="the extra `explore` is not installed")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"--port {port} cannot be had" in refused(capsys, str(trained), "--port", port)
    for wrong in ("0", "65536", "x"):
        assert "--port" in refused(capsys, str(trained), "--port", wrong)
