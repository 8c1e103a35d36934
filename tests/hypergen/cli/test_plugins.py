"""Networks named by FILE.py:NAME, from training to every later command."""

from hypergen.catalog import TARGETS
from hypergen.cli.main import main
from hypergen.registry import LOADED

NETWORK = """
from torch import nn


class MyNet(nn.Sequential):
    def __init__(self, num_classes, input_shape):
        channels, height, width = input_shape
        super().__init__(nn.Flatten(), nn.Linear(channels * height * width, num_classes))


class Broken(MyNet):
    def forward(self, images):
        raise KeyError("oops")
"""
BRIEF = (
    "--steps 2 --population 2 --batch-size 8 --samples 2 --images 4 --sra-samples 0 --no-baseline"
)


def test_naming_the_plugin_again_is_enough(tmp_path, capsys):
    file, run = tmp_path / "my_net.py", tmp_path / "run"
    file.write_text(NETWORK)
    assert main(["train", "--target", f"{file}:MyNet", *BRIEF.split(), "--out", str(run)]) == 0
    assert f"--plugin {file}" in capsys.readouterr().out  # in what is suggested next
    TARGETS.drop("MyNet")  # as in another process
    LOADED.clear()
    judged = ["evaluate", str(run), "--images", "4", "--steps", "2", "--restarts", "1"]
    assert main(judged) == 2
    assert "add --plugin" in capsys.readouterr().err
    assert main([*judged, "--plugin", str(file)]) == 0


def test_a_run_is_resumed_by_the_file_and_the_name_alone(tmp_path, capsys):
    file, run = tmp_path / "my_net.py", tmp_path / "run"
    file.write_text(NETWORK)
    command = ["train", "--target", f"{file}:MyNet", "--out", str(run)]
    assert main([*command, *BRIEF.split()]) == 0
    for words in ([*command, "--resume"], [*command[:3], f"--out={run}", "--resume"]):
        TARGETS.drop("MyNet")
        LOADED.clear()
        assert main(words) == 0, capsys.readouterr().err
    assert main(["train", "--target", str(file), "--out", str(run)]) == 2
    assert "it has MyNet, Broken" in capsys.readouterr().err


def test_a_network_that_fails_leaves_no_folder(tmp_path, capsys):
    file, run = tmp_path / "my_net.py", tmp_path / "run"
    file.write_text(NETWORK)
    assert main(["train", "--target", f"{file}:Broken", "--out", str(run)]) == 2
    assert "oops" in capsys.readouterr().err
    assert not run.exists()
