import contextlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from hypergen.cli.main import main
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.storage.weights import load_network, read_metadata, save_network

TINY = (
    "train --target mlp --image-size 8 --steps 4 --population 2 --batch-size 8 "
    "--max-robustness-gap 1 --samples 2 --images 20 --sra-samples 0 --no-baseline"
)
"""A run that takes seconds."""


class Malice:
    def __reduce__(self):
        return os.system, ("touch malice",)


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> Path:
    """The folder of a tiny run, made by the command line; to be read only."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert main([*TINY.split(), "--out", str(out)]) == 0
    return out


@pytest.fixture(autouse=True)
def _quick_to_draw(rough_pictures) -> None:
    """All that commands draw here is rough."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch) -> Path:
    """Works in a folder of its own, with no data sets but those that come with the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYPERGEN_DATA", raising=False)
    monkeypatch.delenv("HYPERGEN_PLUGINS", raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def everything_wrong(tmp_path_factory, base, digits) -> Path:
    """A folder with everything that can be wrong."""
    folder = tmp_path_factory.mktemp("wrong")
    with contextlib.chdir(folder):
        write_weight_files(base)
        write_runs(digits)
        write_plugins()
        Path("file").write_text("not a folder")
        Path("empty").mkdir()
        Path("full").mkdir()
        Path("full", "something").touch()
        raw = Path("damaged", "MNIST", "raw")
        raw.mkdir(parents=True)
        for part in ("train", "t10k"):
            for kind in ("images-idx3", "labels-idx1"):
                Path(raw, f"{part}-{kind}-ubyte").write_bytes(b"damaged")
    return folder


@pytest.fixture
def here(own_folder, everything_wrong) -> Path:
    """A copy of that folder to work in."""
    shutil.copytree(everything_wrong, own_folder, dirs_exist_ok=True)
    return own_folder


def write_plugins() -> None:
    """Plugins that cannot be loaded."""
    Path("syntax.py").write_text("def broken(:\n")
    Path("nothing.py").write_text("NUMBER = 3\n")
    Path("fails.py").write_text("raise ValueError('so it is')\n")


def write_weight_files(base: Path) -> None:
    """A good weight file, and bad ones."""
    Path("base.safetensors").write_bytes(base.read_bytes())
    Path("foreign.safetensors").write_bytes(b"plain text, and not a short one")
    Path("truncated.safetensors").write_bytes(base.read_bytes()[:-9])
    state, metadata = load_network(base).state_dict(), read_metadata(base)
    torch.save(state, "plain.pt")
    torch.save({"state_dict": Malice()}, "malice.pt")
    Path("malice.safetensors").write_bytes(pickle.dumps(Malice()))
    save_network(Path("shape.safetensors"), {k: v[:3] for k, v in state.items()}, metadata)
    plugin = {"kind": "target", "name": "MyNet", "source": "my_net.py", "sha256": "0" * 64}
    theirs = metadata | {"target": "MyNet", "plugins": [plugin]}
    save_network(Path("theirs.safetensors"), state, theirs)


def write_runs(digits: Dataset) -> None:
    """A run that has been configured but not trained, and damaged ones."""
    for name in ("run", "broken", "other", "former"):
        Path(name).mkdir()
    config = TrainConfig.of(target="mlp", image_size=8, steps=3)
    RunSettings(config, digits.info, ReportConfig()).save(Path("run"))
    Path("broken", "config.json").write_text("{")
    tree = json.loads(Path("run", "config.json").read_text())
    tree["config"]["optimisation"]["stepps"] = 3
    Path("other", "config.json").write_text(json.dumps(tree))
    former = {"dataset": "digits", "target": "mlp", "steps": 3}
    Path("former", "config.json").write_text(json.dumps(former))
