"""`torchrun -m hypergen`: any number of processes goes on with what any other has begun."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from hypergen.cli.main import main
from hypergen.storage import checkpoint

pytestmark = pytest.mark.slow
RUN = (
    "train --target mlp --image-size 8 --steps 60 --population 3 --batch-size 8 --value-steps 2 "
    "--objective value --max-robustness-gap 0.9 --samples 2 --images 20 --sra-samples 0 "
    "--no-baseline"
)


def torchrun(count: int, *arguments: str, restarts: int = 0) -> subprocess.Popen[str]:
    options = ["--standalone", f"--nproc-per-node={count}", f"--max-restarts={restarts}"]
    return started(options, arguments)


def started(
    options: Sequence[str], arguments: Sequence[str], folder: Path | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", *options, "-m", "hypergen"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, *arguments], env=environment, cwd=folder, **pipes)


def said(process: subprocess.Popen[str]) -> list[str]:
    """What hypergen itself said of a failure, once the process has ended."""
    out, err = process.communicate(timeout=300)
    return [line for line in (out + err).splitlines() if line.startswith("hypergen: ")]


def wait_for_steps(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    path = folder / "metrics.jsonl"
    while not path.exists() or path.read_text().count("\n") < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """The run that nothing has interrupted, of one process."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = torchrun(1, *RUN.split(), "--out", str(folder))
    assert said(process) == [] and process.returncode == 0
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    assert (folder / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    judged = [
        json.loads((each / "results.json").read_text())["networks"] for each in (folder, whole)
    ]
    assert judged[0] == judged[1]
    found, expected = (checkpoint.load(each / checkpoint.CHECKPOINT) for each in (folder, whole))
    assert found["step"] == 60 and found["rng"].equal(expected["rng"])
    for name, tensor in expected["generator"].items():
        assert found["generator"][name].equal(tensor), name


def test_a_run_ended_on_two_goes_on_with_one_and_with_three(whole, tmp_path):
    begun = tmp_path / "begun"
    process = torchrun(2, *RUN.split(), "--out", str(begun))
    wait_for_steps(begun, 10, process)
    process.send_signal(signal.SIGTERM)
    (told,) = said(process)
    assert told.startswith("hypergen: interrupted; continue by hypergen train --resume")
    assert 10 <= checkpoint.load(begun / checkpoint.CHECKPOINT)["step"] < 60
    for count in (1, 3):
        shutil.copytree(begun, folder := tmp_path / str(count))
        process = torchrun(count, "train", "--resume", "--out", str(folder))
        assert said(process) == [] and process.returncode == 0
        assert_same(folder, whole)


def test_two_machines_without_a_disk_in_common_train_what_one_process_does(whole, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--nnodes=2", "--master-addr=127.0.0.1", f"--master-port={port}"]
    processes = []
    for rank in range(2):
        (folder := tmp_path / str(rank)).mkdir()
        line = [*RUN.split(), "--out", "run"]
        processes.append(started([*options, f"--node-rank={rank}"], line, folder))
    for process in processes:
        assert said(process) == [] and process.returncode == 0
    assert_same(tmp_path / "0" / "run", whole)
    assert [*(tmp_path / "1").iterdir()] == []  # the first one alone writes


def test_a_rank_that_dies_ends_all_and_torchrun_begins_again(whole, tmp_path):
    folder = tmp_path / "run"
    process = torchrun(2, *RUN.split(), "--out", str(folder), restarts=1)
    wait_for_steps(folder, 5, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    said(process)
    assert process.returncode == 0
    assert_same(folder, whole)


def test_more_processes_than_networks_are_told_once(tmp_path):
    process = torchrun(2, *RUN.split(), "--population", "1", "--out", str(tmp_path / "run"))
    (told,) = said(process)
    assert "started 2 processes for a `population` of 1" in told.replace(
        "--population", "`population`"
    )
    assert not (tmp_path / "run").exists()


def test_an_evaluation_shared_is_that_of_one_process(whole, tmp_path):
    options = ["--images", "60", "--attack", "standard", "--steps", "3", "--restarts", "1"]
    paths = [tmp_path / f"{count}.json" for count in (1, 2)]
    for count, path in zip((1, 2), paths, strict=True):
        command = ["evaluate", str(whole), *options, "--json", str(path)]
        process = torchrun(count, *command)
        assert said(process) == [] and process.returncode == 0
    first, second = (json.loads(path.read_text())["networks"] for path in paths)
    assert first == second
    # What is known by then is not done again, and still the same.
    assert main(["evaluate", str(whole), *options, "--json", str(paths[1])]) == 0
    assert json.loads(paths[1].read_text())["networks"] == first


def test_networks_tried_on_each_other_and_side_by_side_are_those_of_one_process(
    whole, tmp_path, capsys
):
    samples = sorted(map(str, (whole / "samples").iterdir()))
    options = ["--images", "60", "--steps", "3", "--restarts", "1"]
    commands = {
        "transfer.json": ["transfer", *samples, *options, "--json"],
        "report.md": ["report", *samples, *options, "--format", "md", "--out"],
    }
    for name, command in commands.items():
        path = tmp_path / name
        assert main([*command, str(path)]) == 0
        alone, shown = path.read_bytes(), capsys.readouterr().out
        path.unlink()
        process = torchrun(2, *command, str(path))
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert (path.read_bytes(), out) == (alone, shown), name
