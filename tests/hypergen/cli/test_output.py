"""Output that cannot be shown costs nothing: results are on disk, and the status is 0."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hypergen.cli.main import exit_status, main
from tests.hypergen.cli.conftest import TINY
from tests.hypergen.cli.programs import start

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="no device that is always full")
WORK = r"""
    import sys
    print("caf\u00e9 \udcff", flush=True)
    print("slow", file=sys.stderr, flush=True)
    with open("result", "w") as file:
        file.write(str(file.fileno()))
    print("done")
"""
"""A command that prints before it writes, which none should."""


def closed(*descriptors: int):
    def close() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return close


@pytest.mark.parametrize("descriptors", [(1,), (2,), (1, 2), (0, 1, 2)], ids=str)
def test_streams_that_are_closed(descriptors, tmp_path):
    """No file gets the number of one of them: libraries write their warnings there."""
    process = start(tmp_path, WORK, preexec_fn=closed(*descriptors))
    shown = process.communicate(timeout=30)
    assert process.returncode == 0 and int((tmp_path / "result").read_text()) > 2
    assert [bool(text) for text in shown] == [number not in descriptors for number in (1, 2)]


def test_an_error_is_not_told_on_standard_output(tmp_path):
    process = start(tmp_path, "raise OSError('no space')", preexec_fn=closed(2))
    assert process.communicate(timeout=30) == ("", "") and process.returncode == 1


def test_a_reader_that_has_left(tmp_path):
    process = start(tmp_path, "import time\ntime.sleep(0.5)\n" + WORK.replace("\n    ", "\n"))
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.stderr.close()
    assert process.wait(30) == 0 and (tmp_path / "result").exists()


@needs_full
def test_a_full_disk_is_told_on_standard_error(tmp_path):
    with FULL.open("w") as full:
        process = start(tmp_path, WORK, stdout=full)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 0 and (tmp_path / "result").exists()
    lost = "hypergen: what was to be shown is lost: No space left on device"
    assert told.splitlines() == ["slow", lost]


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", b"caf\\xe9"), ("utf-8", b"caf\xc3\xa9"), ("cp1252", b"caf\xe9")],
)
def test_characters_that_cannot_be_encoded_are_escaped(encoding, shown, tmp_path):
    with (tmp_path / "out").open("wb") as out:
        process = start(tmp_path, WORK, stdout=out, env={"PYTHONIOENCODING": encoding})
        assert process.wait(30) == 0
    assert (tmp_path / "out").read_bytes() == shown + b" \\udcff\ndone\n"


def test_a_slow_reader_gets_everything(tmp_path):
    """Also where the other end has made the pipe one that does not wait."""
    body = "import os\nos.set_blocking(1, False)\nprint('x' * 300_000)\nprint('end')"
    process = start(tmp_path, body)
    time.sleep(0.5)
    assert process.communicate(timeout=30) == ("x" * 300_000 + "\nend\n", "")
    assert process.returncode == 0


def test_streams_are_given_back(capfd):
    before = sys.stdout, sys.stderr
    assert exit_status(lambda: print("shown")) == 0
    assert (sys.stdout, sys.stderr) == before
    print("and after")
    assert capfd.readouterr().out == "shown\nand after\n"


COMMANDS = {
    "evaluate café.safetensors --attack pgd --images 4 --json café.json": "café.json",
    "transfer café.safetensors other.safetensors --attack fgsm --images 4 --json o.json": "o.json",
    "sample run --count 2 --out drawn": "drawn/sample-0001.safetensors",
    "baseline --target mlp --epochs 1 --out direct": "direct/network.safetensors",
    "export café.safetensors --format safetensors --out moved": "moved/café.safetensors",
    "list target": None,
    TINY + " --out trained": "trained/results.json",
}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[0])
def test_no_command_loses_its_results(command, trained, tmp_path, monkeypatch):
    (tmp_path / "run").symlink_to(trained)
    samples = sorted((trained / "samples").glob("*.safetensors"))
    for path, name in zip(samples, ("café", "other"), strict=True):
        (tmp_path / f"{name}.safetensors").write_bytes(path.read_bytes())
    full = os.open(FULL, os.O_WRONLY) if FULL.exists() else unread()
    out, err = (os.fdopen(stream, "w", encoding="ascii") for stream in (full, unread()))
    with monkeypatch.context() as patched, out, err:
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        assert main(command.split()) == 0
    written = COMMANDS[command]
    assert written is None or (tmp_path / written).exists()
    if written is not None and written.endswith(".json"):
        json.loads((tmp_path / written).read_text())


def unread() -> int:
    """A pipe whose reader has left."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.slow
def test_evaluate_into_a_pipe_that_nobody_reads(trained, tmp_path):
    command = f"{sys.executable} -m hypergen evaluate {trained}/samples --attack fgsm --images 9"
    whole = f"{command} --json o.json | true; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(["bash", "-c", whole], cwd=tmp_path, env=environment, capture_output=True)
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert len(json.loads((tmp_path / "o.json").read_text())["networks"]) == 2
