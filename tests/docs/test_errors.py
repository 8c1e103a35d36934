"""The errors that docs/errors.md explains are those that commands end with."""

from pathlib import Path

import pytest

from hypergen.cli.main import main
from tests.docs.documents import DOCS, blocks

ERRORS = "".join(blocks((DOCS / "errors.md").read_text(), "")).splitlines()
COMMANDS = [
    "train --epsillon 0.1",
    "train --epsilon 8",
    "train --dataset mnst",
    "train --dataset folder:pets",
    "train --dataset folder:pets --epsilon 0.1",
    "train --dataset folder:one --epsilon 0.1",
    "train --dataset folder:nowhere --epsilon 0.1",
    "train --dataset npz:nothing.npz --epsilon 0.1",
    "train --plugin broken.py",
    "train --plugin nowhere.py",
    "train --target my_net.py:Other",
    "train --resume",
    "train --resume --out empty",
    "train --beta 2",
    "train --beta 0.3 --measure accuracy=1",
    "train --objective direct --measure worst-class=0.5",
    "sample RUN",
    "evaluate",
    "evaluate nowhere",
    "evaluate t.pt",
    "compare RUN",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_ends_with_an_error_of_the_page(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for folder in ("pets/cat", "pets/dog", "one/cat", "RUN"):
        Path(folder).mkdir(parents=True)
    Path("broken.py").write_text("def x(:\n")
    Path("my_net.py").write_text("import torch\n\nclass MyNet(torch.nn.Linear):\n    pass\n")
    Path("t.pt").touch()
    assert main(command.split()) == 2
    assert capsys.readouterr().err.removeprefix("hypergen: ").strip() in ERRORS
