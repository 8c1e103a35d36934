"""What scripts/on_gpu.sh would run."""

import importlib
import os
import shlex
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest
import tyro

from scripts import common
from scripts.studies import generated_activations


def on_gpu(folder: Path, *wanted: str, fails: bool = False, **settings: str):
    """What scripts/on_gpu.sh ends with, and the command lines it would give to Python."""
    python, log = folder / "python", folder / "log"
    log.write_text("")
    python.write_text(
        f'#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done >> {shlex.quote(str(log))}\n'
        f'printf "\\n" >> {shlex.quote(str(log))}\nexit {int(fails)}\n'
    )
    python.chmod(0o755)
    script = Path(common.__file__).with_name("on_gpu.sh")
    done = subprocess.run(
        ["sh", str(script), str(folder / "figures"), *wanted],
        env=os.environ | {"PYTHON": str(python)} | settings,
        check=False,
        capture_output=True,
    )
    return done, [line.split("\0")[:-1] for line in log.read_text().splitlines()]


@pytest.mark.parametrize("options", ["", "--quick"])
def test_what_runs_on_a_gpu_can_be_parsed(options, tmp_path):
    done, lines = on_gpu(tmp_path, OPTIONS=options)
    assert done.returncode == 0 and lines[0][:2] == ["-m", "pytest"]
    places, shared = [], {}
    for _, module, *words in lines[1:]:
        main = importlib.import_module(module).main
        config = tyro.cli(main.__annotations__["config"], args=words)
        places.append(config.out)
        assert getattr(config, "quick", bool(options)) == bool(options)
        if hasattr(config, "only"):  # calls that share a folder must have the same settings
            settings = {k: v for k, v in asdict(config).items() if k not in common.PLACES}
            assert shared.setdefault(config.work, settings) == settings
        if isinstance(config, generated_activations.StudyConfig):
            common.parsed(["train", *shlex.split(config.train)])
            common.parsed(["evaluate", "network", *shlex.split(config.evaluate)])
    assert all(str(place).startswith(str(tmp_path)) for place in places)
    assert len(lines) == (14 if options else 18)


def test_a_part_of_what_runs_on_a_gpu(tmp_path):
    done, lines = on_gpu(tmp_path, "kwta", "first", fails=True)
    assert done.returncode == 1
    assert [line[1] for line in lines] == [
        "scripts.studies.activations",
        "scripts.studies.kwta",
    ]
    assert on_gpu(tmp_path, "kwat")[0].returncode == 2


def test_nothing_is_computed_where_the_checks_fail(tmp_path):
    done, lines = on_gpu(tmp_path, "tests", "check", "kwta", fails=True)
    assert done.returncode == 1
    assert [line[1] for line in lines] == ["pytest", "scripts.bench.cuda"]
