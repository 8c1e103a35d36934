"""Every command of README and docs/ exists, and takes the options that it is shown with."""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hypergen.cli.early import Early
from hypergen.cli.main import COMMANDS
from hypergen.config import TrainConfig
from hypergen.data import DatasetInfo
from hypergen.errors import InputError
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.measures import build_measures
from hypergen.plugins import load_named
from tests.docs.documents import DOCS, ROOT, blocks, commands, texts
from tests.registries import registries_kept

TEXTS = texts()
NETWORK = """
import hypergen
from torch import nn

class MyNet(nn.Linear):
    pass

@hypergen.register_target("tiny")
class Tiny(MyNet):
    pass

class Theirs(MyNet):
    pass
"""
MEASURES = """
import hypergen
for name in ("mine", "smoothness", "faint", "sure"):
    @hypergen.register_measure(name)
    def own(population, images, labels, times=1):
        "One of the pages' own."
"""
FILES = {
    "my_net.py": NETWORK,
    "mine.py": NETWORK,
    "my_package/networks.py": NETWORK,
    "my_measure.py": MEASURES,
}
"""What the pages' commands load."""
RUNS = "RUN", "RUN2", "runs/a"
PLACEHOLDER = "COMMAND"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """The working folder of somebody who has the pages' files and runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, code in FILES.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(code)
    info = DatasetInfo("digits", (1, 28, 28), tuple("0123456789"), 0.1)
    for name in RUNS:
        Path(name).mkdir(parents=True)
        RunSettings(TrainConfig(), info, ReportConfig()).save(Path(name))
    yield tmp_path
    for name in ("my_package.networks", "my_package"):
        sys.modules.pop(name, None)


def parse(command: str) -> None:
    """Parses a `hypergen` command as the command line does; `InputError` for a wrong one."""
    _, name, *arguments = shlex.split(command)
    if name in ("--version", "--help", "--print-completion") or name == PLACEHOLDER:
        return
    assert name in COMMANDS, command
    arguments = [argument for argument in arguments if argument != "--help"]
    parser = importlib.import_module(f"hypergen.cli.{name}").COMMAND
    if name in ("sample", "search", "card") and not arguments:
        return  # named as a command, not as a call
    with registries_kept():
        load_named(Early.of(arguments).plugins)
        settings, _ = parser.parse(name, arguments)
        if name in ("train", "sweep"):
            build_measures(settings["training"])  # whose names and options are looked up here


@pytest.mark.parametrize("document", TEXTS)
def test_commands_can_be_given(document, folder):
    for command in commands(TEXTS[document]):
        if command.startswith("hypergen "):
            try:
                parse(command)
            except InputError as error:
                pytest.fail(f"{document}: {command}: {error}")


def test_a_wrong_command_is_seen(folder):
    for command in ("hypergen train --epsillon 1", "hypergen train --measure nothing=1"):
        with pytest.raises(InputError):
            parse(command)
    with pytest.raises(AssertionError):
        parse("hypergen trian")


def test_other_commands_are_there():
    goals = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    looked_at = 0
    for document, text in TEXTS.items():
        for command in commands(text):
            words = command.split()
            if words[0] == "make":
                named = [word for word in words[1:] if "=" not in word and word != "..."]
                assert set(named) <= {*goals} or '"' in command, f"{document}: {command}"
            elif words[:2] == ["python", "-m"]:
                module = ROOT / words[2].replace(".", "/")
                files = module.with_suffix(".py"), module / "__main__.py"
                assert words[2] == "build" or any(file.exists() for file in files), command
            elif words[:2] == ["python", "-c"]:
                compile(shlex.split(command)[2], command, "exec")
            elif words[0] in ("python", "sh"):
                assert (ROOT / words[1]).exists(), command
            looked_at += words[0] != "hypergen"
    assert looked_at > 10


def test_every_command_is_described_with_all_its_options():
    listed = re.findall(r"^```\{options\} (\w+)$", (DOCS / "commands.md").read_text(), re.MULTILINE)
    assert listed == list(COMMANDS)


@pytest.mark.parametrize("document", TEXTS)
def test_python_can_be_read(document):
    for code in blocks(TEXTS[document], "python"):
        compile(code, document, "exec")
