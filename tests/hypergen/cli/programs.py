"""A command that does what a test wants of it, run as `hypergen work`; it loads no PyTorch."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import hypergen

ROOT = Path(hypergen.__file__).parents[1]
_START = """
import sys
import hypergen.cli
from hypergen.cli.main import COMMANDS, main

hypergen.cli.__path__.append(".")
COMMANDS["work"] = "what a test wants"
sys.argv[1:] = ["work"]
sys.exit(main())
"""
_COMMAND = """
from types import SimpleNamespace


class COMMAND:
    def parse(name, arguments):
        return {}, SimpleNamespace(machine=SimpleNamespace(memory=None))


def run(settings, own):
"""


def start(folder: Path, body: str, importing: str = "", **options: Any) -> subprocess.Popen[str]:
    """The process of a command in `folder`: `importing` runs with its imports, `body` is its work.

    options: of `Popen`; standard output and error are pipes unless they say otherwise.
    """
    work = textwrap.dedent(importing) + _COMMAND + textwrap.indent(textwrap.dedent(body), "    ")
    (folder / "work.py").write_text(work)
    (folder / "start.py").write_text(_START)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-m", "start"]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **{**pipes, **options})
