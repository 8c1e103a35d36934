"""The command line as a whole: usage, versions, statuses, and the words of messages."""

import ast
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

import hypergen
from attacks import AttackError
from hypergen.cli.early import Early
from hypergen.cli.main import COMMANDS, exit_status, main, yield_cores
from hypergen.cli.wording import in_options
from hypergen.errors import REFUSED_STATUS, InputError, RunError
from hypergen.experiments.run_folder import dated
from targets import TargetError
from tests.hypergen.cli.programs import start


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_usage_names_every_command(arguments, capsys):
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"hypergen {hypergen.__version__}, Python 3.")
    assert f"PyTorch {torch.__version__}, " in shown and shown.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (None, 0, ""),
        (InputError("`data_dir` is no folder"), 2, "hypergen: --data-dir is no folder\n"),
        (AttackError("no such attack"), 2, "hypergen: no such attack\n"),
        (TargetError("no such target"), 2, "hypergen: no such target\n"),
        (RunError("training diverged"), 1, "hypergen: training diverged\n"),
        (OSError("no space left"), 1, "hypergen: no space left\n"),
        (MemoryError(), 1, "hypergen: there is not enough memory for this\n"),
        (
            torch.OutOfMemoryError("CUDA out of memory"),
            1,
            "hypergen: there is not enough memory for this\n",
        ),
        (KeyboardInterrupt("; repeat it"), 130, "hypergen: interrupted; repeat it\n"),
    ],
)
def test_how_a_command_ends(error, status, line, monkeypatch, capsys):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)  # to have it back

    def action():
        if error is not None:
            raise error

    assert exit_status(action) == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("told", "added"),
    [
        ({}, {"GOMP_SPINCOUNT": "10000"}),
        ({"GOMP_SPINCOUNT": "7"}, {}),
        ({"OMP_WAIT_POLICY": "active"}, {}),
    ],
)
def test_idle_threads_yield_their_cores_unless_told_otherwise(told, added):
    environ = dict(told)
    yield_cores(environ)
    assert environ == told | added


def test_the_command_asks_for_it_before_pytorch_is_loaded():
    code = (
        "import os, sys, hypergen.cli.main as cli\n"
        "def tell(words): print('torch' in sys.modules, os.environ['GOMP_SPINCOUNT'])\n"
        "cli.run_command = tell\n"
        "cli.main()"
    )
    unset = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=unset, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False 10000\n"


def test_a_trial_of_a_sweep_tells_what_the_system_refuses_from_other_failures():
    code = (
        "import os, runpy, sys, hypergen.cli.main as cli\n"
        "def refuse(words): raise OSError('no space left')\n"
        "cli.run_command = refuse\n"
        "sys.argv = ['trial', str(os.getppid()), 'train']\n"
        "runpy.run_module('hypergen.cli.trial', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (REFUSED_STATUS, "hypergen: no space left\n")


@pytest.mark.parametrize("take", [np.empty, torch.empty])
def test_memory_that_is_not_there(take, monkeypatch, capsys):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    assert exit_status(lambda: take(2**58)) == 1
    assert capsys.readouterr().err == "hypergen: there is not enough memory for this\n"


def test_a_fault_of_ours_is_not_hidden(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with pytest.raises(ZeroDivisionError):
        exit_status(lambda: 1 // 0)


def test_warnings_are_one_line(monkeypatch):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    main(["--version"])
    assert warnings.formatwarning(UserWarning("`seed` it is"), UserWarning, "file.py", 1) == (
        "hypergen: --seed it is\n"
    )


def test_settings_become_options():
    text = "`data_dir` and `keep`, not `FILE.py` or `a b`"
    assert in_options(text) == "--data-dir and --keep, not `FILE.py` or `a b`"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_mistake_is_one_line_in_any_encoding(encoding, monkeypatch):
    """Without UTF-8 tyro draws its boxes in another way."""
    raw = {name: io.BytesIO() for name in ("stdout", "stderr")}
    for name, stream in raw.items():
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding, write_through=True))
    assert main(["train", "--bta", "1"]) == 2
    assert raw["stdout"].getvalue() == b""
    told = b"hypergen: Unrecognized options: --bta, 1 (did you mean --beta?)\n"
    assert raw["stderr"].getvalue() == told


def test_a_name_that_the_terminal_cannot_show_is_shown_in_another_way():
    code = "from hypergen.cli.main import exit_status; exit_status(lambda: print('caf\\u00e9'))"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment)
    assert (done.returncode, done.stdout) == (0, b"caf\\xe9\n")


def test_options_that_are_looked_at_first():
    arguments = [
        "--plugin",
        "a.py",
        "--out=x",
        "--plugin=b.c",
        "--preset",
        "thesis",
        "--out",
        "y",
        "--resume",
    ]
    assert Early.of(arguments) == Early(("a.py", "b.c"), "thesis", "y", True)
    assert Early.of(["--out"]) == Early.of([]) == Early((), None, None, False)


def test_commands_started_at_once_have_folders_of_their_own():
    folders = [dated("train") for _ in range(3)]
    assert len(set(folders)) == 3
    assert all(re.fullmatch(r"runs/\d{8}-\d{6}-\d{6}-train", str(path)) for path in folders)


ROOT = Path(hypergen.__file__).parents[1]
SPEAKS_OPTIONS = "hypergen/cli/", "hypergen/report/", "hypergen/explore/"
"""What people look at who started a command."""
COMMAND_LINE = "hypergen/experiments/command_line.py"
STARTS_PROCESSES = "hypergen/experiments/trials.py", "hypergen/experiments/pages.py"
"""Their child processes are commands, and a browser."""


def test_the_library_knows_no_options():
    """Its messages speak Python's names in backticks, which `in_options` translates."""
    found = {}
    for path in sorted((ROOT / "hypergen").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(SPEAKS_OPTIONS) or name in (COMMAND_LINE, *STARTS_PROCESSES):
            continue
        tree = ast.parse(path.read_text())
        prose = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        texts = [
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in prose
            and re.search(r"(^|\s)--[a-z]", node.value)
        ]
        if texts:
            found[name] = texts
    assert found == {}


def test_a_command_is_begun_without_pytorch(tmp_path):
    """Which takes seconds to load, and is the command's own to ask for."""
    process = start(tmp_path, "import sys\nprint('torch' in sys.modules, 'numpy' in sys.modules)")
    out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == ("False False\n", "", 0)
