"""Files that are handed on tell nobody where a user's folders lie."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hypergen.cli.main import main
from hypergen.storage.weights import read_metadata
from tests.hypergen.cli.test_plugins import BRIEF, NETWORK
from tests.registries import registries_kept


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Path]:
    """A run whose images, network and folder lie in private ones."""
    private = tmp_path_factory.mktemp("home") / "private"
    private.mkdir()
    (private / "net.py").write_text(NETWORK)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    np.savez(private / "cats.npz", images=images, labels=np.arange(60) % 3)
    words = ["--dataset", f"npz:{private}/cats.npz", "--epsilon", "0.1", *BRIEF.split()]
    words += ["--target", f"{private}/net.py:MyNet", "--out", f"{private}/runs/a"]
    with registries_kept():
        assert main(["train", *words]) == 0
        yield private / "runs" / "a"


def test_what_is_handed_on_tells_no_folders(run, capsys):
    sample = f"{run}/samples/sample-0000.safetensors"
    quick = ["--images", "4", "--steps", "2", "--restarts", "1"]
    for words in (
        ["report", str(run), "--format", "md"],
        ["report", str(run), f"{run}/samples", "--out", "both.html", *quick],
        ["report", str(run), f"{run}/samples", "--format", "md", "--out", "both.md", *quick],
        ["export", sample, "--format", "safetensors", "--out", "exported.safetensors"],
    ):
        assert main(words) == 0, capsys.readouterr().err
    for file in (
        *(run / name for name in ("report.html", "report.md", "results.json", "scatter.svg")),
        *map(Path, ("both.html", "both.md", "exported.safetensors")),
    ):
        text = file.read_bytes()
        assert b"private" not in text and str(run.parents[2]).encode() not in text, file
        assert b"npz:cats.npz" in text, file
    (session,) = json.loads((run / "results.json").read_text())["sessions"]
    assert "--target net.py:MyNet --out a" in session["command"]


def test_what_goes_on_elsewhere_finds_its_images(run):
    sample = run / "samples" / "sample-0000.safetensors"
    private = run.parents[1]
    assert read_metadata(sample)["dataset"] == f"npz:{private}/cats.npz"
    assert main(["evaluate", str(sample), "--images", "4", "--steps", "2", "--restarts", "1"]) == 0
    assert main(["sample", str(run), "--count", "1"]) == 0
