"""A run that has ended: what it says, and what happens to it when it is asked for again."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hypergen.errors import InputError
from hypergen.experiments import run as experiment
from hypergen.experiments.run import load_generator, reported
from hypergen.experiments.run_folder import RESULTS, RunSettings
from hypergen.models.bundle import ModelBundle
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.storage.weights import load_network, read_metadata
from tests.hypergen.experiments.runs import same, state, timeless


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs") / "original"


@pytest.fixture
def finished(tiny, trained, original, tmp_path) -> Path:
    """A copy of a run of `tiny` that has ended, which is trained once."""
    if not (original / RESULTS).exists():
        trained(tiny, original)
    return Path(shutil.copytree(original, tmp_path / "run"))


def results(folder: Path) -> dict:
    return json.loads((folder / RESULTS).read_text())


def test_a_sample_says_how_its_figures_came_about(finished):
    file = finished / "samples" / "sample-0000.safetensors"
    metadata = read_metadata(file)
    assert metadata["attack"] == results(finished)["attack"]
    drawn = load_generator(finished).sample(2, seed=metadata["seed"])[0]
    assert same(dict(load_network(file).state_dict()), dict(drawn.state_dict()))


def test_a_finished_run_is_only_reported_again(tiny, trained, finished):
    folder, first = finished, results(finished)
    with pytest.raises(InputError, match="already holds a run; add `resume`"):
        trained(tiny, folder)
    before = state(folder)
    (folder / RESULTS).unlink()
    again = trained(tiny, folder, resume=True).results
    assert timeless(again) == timeless(first) and same(state(folder), before)


def test_a_report_of_other_sizes_is_made_anew(tiny, trained, small_report, finished):
    folder = finished
    assert trained(tiny, folder, resume=True).results == results(folder)
    for count in (3, 1):
        sizes = replace(small_report, samples=count)
        result = trained(tiny, folder, resume=True, sizes=sizes).results
        assert result["summary"]["sample"]["count"] == count
        assert len(list((folder / "samples").iterdir())) == count
        assert RunSettings.load(folder).report == sizes


def test_a_report_stays_until_the_next_one_is_there(
    tiny, trained, small_report, finished, monkeypatch
):
    folder, first = finished, results(finished)
    mine = folder / "samples" / "notes.txt"
    mine.write_text("mine")

    def stopped(*_):
        raise KeyboardInterrupt

    wider = replace(small_report, samples=3)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(experiment, "report", stopped)
        trained(tiny, folder, resume=True, sizes=wider)
    asked = RunSettings.load(folder)  # what was asked last is what `--resume` alone makes
    assert asked.report == wider and reported(folder, asked) is None
    with monkeypatch.context() as patched:
        patched.setattr(experiment, "report", stopped)  # it is not made again
        assert trained(tiny, folder, resume=True).results == first
    assert len(list((folder / "samples").glob("*.safetensors"))) == small_report.samples
    trained(tiny, folder, resume=True, sizes=replace(small_report, samples=1))
    assert {path.name for path in (folder / "samples").iterdir()} == {
        "sample-0000.safetensors",
        "notes.txt",
    }


def test_other_images_than_those_it_began_with_are_refused(tiny, trained, few, finished):
    folder = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    other = replace(few, train=few.train.head(299))
    with pytest.raises(InputError, match="the data set digits itself has changed"):
        trained(tiny, folder, resume=True, dataset=other)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_damaged_checkpoint_is_told(tiny, few, finished):
    folder = finished
    whole = state(folder)
    lacking = {name: value for name, value in whole.items() if name != "attack_steps"}
    lacking["ema"] = {}
    checkpoint.save(folder / CHECKPOINT, lacking)
    with pytest.raises(InputError, match="does not fit the settings beside it"):
        load_generator(folder)
    other = ModelBundle.fresh(tiny.replace(target="fbf-cnn"), few.info)
    names = ("generator", "ema", "value")
    foreign = {name: getattr(other, name).state_dict() for name in names}
    checkpoint.save(folder / CHECKPOINT, whole | foreign)
    with pytest.raises(InputError, match="does not fit the settings beside it"):
        load_generator(folder)
    (folder / CHECKPOINT).write_bytes(b"no tensors")
    with pytest.raises(InputError, match=CHECKPOINT):
        load_generator(folder)
