"""What commands tell to do next finds the same data and the same code."""

import shlex
from pathlib import Path

import pytest

from hypergen.cli.machine import Machine
from hypergen.cli.main import main
from hypergen.plugins import load_plugin

NET = """
import hypergen, torch

@hypergen.register_target("my-net")
class MyNet(torch.nn.Sequential):
    def __init__(self, num_classes, input_shape):
        size = torch.Size(input_shape).numel()
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(size, num_classes))
"""


def test_the_folder_of_the_data_and_plugins_are_named_again():
    assert Machine().command("list", "target") == ["hypergen", "list", "target"]
    Path("my net.py").write_text(NET)
    load_plugin("my net.py")
    words = Machine(data_dir=Path("my data")).command("sample", "run")
    own = ["--data-dir", "my data", "--plugin", "my net.py"]
    assert words == ["hypergen", "sample", "run", *own]


@pytest.mark.parametrize(
    "command", ["baseline --epochs 1 --out made", "train --no-baseline --sra-samples 0 --out made"]
)
def test_what_a_command_tells_to_do_next_works(command, monkeypatch, capsys):
    monkeypatch.delenv("HYPERGEN_DATA", raising=False)
    Path("my_net.py").write_text(NET)
    size = "--steps 2 --population 2 --samples 2 --images 4" if "train" in command else ""
    assert main(f"{command} {size} --target my_net.py:my-net --data-dir {Path.cwd()}".split()) == 0
    shown = capsys.readouterr().out.replace("robustness: ", "    ").splitlines()
    told = [line.strip() for line in shown if line.startswith("    hypergen evaluate ")]
    assert len(told) == 1 and "--plugin my_net.py" in told[0] and "--data-dir" in told[0]
    quick = "--attack pgd --steps 2 --images 4"
    words = shlex.split(told[0].replace("--attack standard --images 100", quick))
    words = [word for word in words[1:] if word != "--checks"]
    assert main(words) == 0
