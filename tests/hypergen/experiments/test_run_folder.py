"""The settings of a run in their file: read as written, and refused in one line otherwise."""

import json
from dataclasses import replace

import pytest

from hypergen import registry
from hypergen.catalog import TARGETS
from hypergen.config import TrainConfig
from hypergen.data import Split
from hypergen.errors import InputError
from hypergen.experiments.run_folder import (
    RESULTS,
    ReportConfig,
    RunSettings,
    fingerprint,
    read_results,
    require_empty,
    require_free,
)
from hypergen.plugins import load_plugin
from hypergen.storage.folders import CONFIG

OF_0_1_0 = {
    "dataset": "digits",
    "target": "small-lenet5",
    "activation": "relu",
    "base": None,
    "objective": "direct",
    "generator": "auto",
    "steps": 1000,
    "seed": 0,
}
"""Some of what TrainConfig.save of version 0.1.0 wrote."""


@pytest.fixture
def settings(tiny, few) -> RunSettings:
    config = tiny.replace(beta="0.2:0.7", epsilon=0.2, base="x.pt", measure_every=None)
    return RunSettings(config, few.info, ReportConfig(samples=3), baselines=False)


def edited(folder, change) -> None:
    """The file after `change` of its tree."""
    path = folder / CONFIG
    tree = json.loads(path.read_text())
    path.write_text(json.dumps(change(tree)))


def test_what_is_saved_is_loaded(settings, few, tmp_path):
    settings.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [CONFIG]
    assert RunSettings.load(tmp_path) == settings
    (tmp_path / CONFIG).write_bytes(b"\xef\xbb\xbf" + (tmp_path / CONFIG).read_bytes())
    assert RunSettings.load(tmp_path) == settings  # a byte-order mark is no fault
    settings.on(few).save(tmp_path)
    assert RunSettings.load(tmp_path).images == fingerprint(few)


def test_a_run_of_another_version_is_told_its_version(settings, tmp_path):
    (tmp_path / CONFIG).write_text(json.dumps(OF_0_1_0))
    with pytest.raises(InputError, match=r"was made by hypergen 0\.1\.0, and this is 0\.2") as told:
        RunSettings.load(tmp_path)
    assert "\n" not in str(told.value)
    settings.save(tmp_path)
    edited(tmp_path, lambda tree: tree | {"format": 3, "version": "9.9"})
    with pytest.raises(InputError, match=r"was made by hypergen 9\.9"):
        RunSettings.load(tmp_path)
    (tmp_path / CONFIG).write_text("{}")
    with pytest.raises(InputError, match="holds no settings of one"):
        RunSettings.load(tmp_path)
    (tmp_path / CONFIG).unlink()
    with pytest.raises(InputError, match=f"is not a run: it has no {CONFIG}"):
        RunSettings.load(tmp_path)


def without(key):
    return lambda tree: {name: value for name, value in tree.items() if name != key}


def within(part, **changes):
    return lambda tree: tree | {part: tree[part] | changes}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("config"), "expected settings, got NoneType"),
        (without("data"), "a data set is described by"),
        (without("report"), "expected settings, got NoneType"),
        (without("baselines"), "`baselines` must be true or false"),
        (without("plugins"), "plugins cannot be read"),
        (lambda tree: tree | {"baselines": 1}, "`baselines` must be true or false"),
        (lambda tree: tree | {"images": 5}, "`images` must be a fingerprint"),
        (lambda tree: tree | {"plugins": [{"kind": "target"}]}, "plugins cannot be read"),
        (lambda tree: tree | {"config": []}, "expected settings, got list"),
        (within("config", colour="red"), "unknown setting colour"),
        (within("config", target="mlb"), 'unknown target "mlb" .did you mean "mlp"'),
        (within("config", generator=None), "expected settings, got NoneType"),
        (within("report", samples="many"), "`samples` must be a whole number"),
        (within("report", samples=0), "`samples` must be at least 1"),
        (within("data", input_shape=[1, 28]), "input_shape"),
        (within("data", epsilon=True), "epsilon"),
        (lambda tree: [tree], "expected an object, got a list"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(settings, tmp_path, change, words):
    settings.save(tmp_path)
    edited(tmp_path, change)
    with pytest.raises(InputError, match=words) as told:
        RunSettings.load(tmp_path)
    assert "\n" not in str(told.value) and str(tmp_path) in str(told.value)


def test_half_a_file_is_told_in_one_line(settings, tmp_path):
    settings.save(tmp_path)
    text = (tmp_path / CONFIG).read_text()
    (tmp_path / CONFIG).write_text(text[: len(text) // 2])
    with pytest.raises(InputError, match="is damaged") as told:
        RunSettings.load(tmp_path)
    assert "\n" not in str(told.value)


PLUGIN = """
from pathlib import Path
import hypergen, torch, math

(Path(__file__).parent / "trace").touch()

@hypergen.register_target("traced")
class Traced(torch.nn.Sequential):
    def __init__(self, num_classes, input_shape):
        size = math.prod(input_shape)
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(size, num_classes))
"""


def test_a_plugin_that_a_run_names_is_never_run_unasked(tmp_path, few, monkeypatch):
    file, trace, folder = tmp_path / "plugin.py", tmp_path / "trace", tmp_path / "run"
    file.write_text(PLUGIN)
    load_plugin(str(file))
    folder.mkdir()
    config = TrainConfig.of(target="traced")
    RunSettings(config, few.info, ReportConfig()).save(folder)
    assert RunSettings.load(folder).config == config
    (record,) = RunSettings.load(folder).plugins
    assert record["kind"] == "target" and record["source"] == str(file)
    trace.unlink()
    monkeypatch.setattr(registry, "LOADED", {})  # as in another process
    TARGETS.drop("traced")
    with pytest.raises(InputError, match=f"needs the target traced of {file}"):
        RunSettings.load(folder)
    assert not trace.exists()


def test_a_plugin_that_has_changed_is_told(tmp_path, few):
    file, folder = tmp_path / "changing.py", tmp_path / "run"
    file.write_text(PLUGIN.replace("traced", "changing"))
    load_plugin(str(file))
    folder.mkdir()
    RunSettings(TrainConfig.of(target="changing"), few.info, ReportConfig()).save(folder)
    file.write_text(file.read_text() + "\n# another line\n")
    load_plugin(str(file))
    with pytest.warns(UserWarning, match="has changed since .* was made"):
        RunSettings.load(folder)
    TARGETS.drop("changing")


def test_a_folder_of_other_settings_is_not_resumed(settings, tmp_path):
    settings.save(tmp_path)
    require_free(tmp_path, settings, resume=True)
    other = replace(settings, config=settings.config.replace(steps=7, learning_rate=0.5))
    words = r"other settings \(steps: 6, not 7; learning_rate: 0.002, not 0.5\)"
    with pytest.raises(InputError, match=words):
        require_free(tmp_path, other, resume=True)
    with pytest.raises(InputError, match="already holds a run; add `resume`"):
        require_free(tmp_path, settings, resume=False)


@pytest.mark.parametrize(
    ("beta", "said"),
    [
        ("0.5", {"base": None, "attack_steps": 3, "epsilon_start": 0.6}),
        ("1", {"base": "pgd", "attack_steps": 7, "epsilon_start": 1.0}),
    ],
)
def test_to_say_what_follows_anyway_is_no_other_setting(settings, beta, said, tmp_path):
    usual = replace(settings, config=settings.config.replace(beta=beta, base="auto"))
    spelled_out = replace(usual, config=usual.config.replace(**said))
    assert usual.config != spelled_out.config
    spelled_out.save(tmp_path)
    require_free(tmp_path, usual, resume=True)


def test_other_images_under_the_same_name_are_told(settings, few, tmp_path):
    settings.on(few).save(tmp_path)
    require_free(tmp_path, settings.on(few), resume=True)
    changed = few.val.images.clone()
    changed[-1, 0, 3, 3] += 1
    other = replace(few, val=Split(changed, few.val.labels))
    with pytest.raises(InputError, match="the data set digits itself has changed"):
        require_free(tmp_path, settings.on(other), resume=True)
    labels = replace(settings, info=replace(few.info, epsilon=0.25))
    with pytest.raises(InputError, match="the data set digits itself has changed"):
        require_free(tmp_path, labels, resume=True)


def test_the_fingerprint_is_of_images_and_labels_alone(few, device):
    assert fingerprint(few.to(device)) == fingerprint(few)
    assert fingerprint(replace(few, info=replace(few.info, flip=True))) == fingerprint(few)
    swapped = Split(few.train.images, few.train.labels.flip(0))
    assert fingerprint(replace(few, train=swapped)) != fingerprint(few)
    assert fingerprint(replace(few, train=few.val, val=few.train)) != fingerprint(few)


def test_only_an_empty_folder_is_written_to(tmp_path):
    require_empty(tmp_path)
    require_empty(tmp_path / "new" / "deep")
    (tmp_path / "mine").touch()
    with pytest.raises(InputError, match="is not empty; choose another `out`"):
        require_empty(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        require_empty(tmp_path / "mine" / "new")


@pytest.mark.parametrize("text", ["{}", "[]", '{"trials": []}', "{"])
def test_results_of_something_else_are_told(text, tmp_path):
    assert read_results(tmp_path) is None
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match="results.json") as told:
        read_results(tmp_path)
    assert "\n" not in str(told.value)


def test_a_finished_run_without_its_checkpoint_is_not_trained_again(settings, tmp_path):
    settings.save(tmp_path)
    require_free(tmp_path, settings, resume=True)  # nothing was trained yet
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="is finished and its checkpoint.safetensors was removed"):
        require_free(tmp_path, settings, resume=True)
    (tmp_path / "checkpoint.safetensors").touch()
    require_free(tmp_path, settings, resume=True)


def test_a_damaged_report_is_told_in_one_line(ranged_run, tmp_path):
    """Whatever is missing in it, or of another type."""
    whole, refused = json.loads(json.dumps(ranged_run.results)), 0

    def variants(tree):
        for key in tree:
            yield {name: value for name, value in tree.items() if name != key}
            yield {**tree, key: 5}
            yield {**tree, key: ["x"]}
            if isinstance(tree[key], dict):
                yield from ({**tree, key: part} for part in variants(tree[key]))

    for damaged in variants(whole):
        (tmp_path / RESULTS).write_text(json.dumps(damaged))
        try:
            read_results(tmp_path)
        except InputError as error:
            refused += 1
            assert "remove it to have it made anew" in str(error)
    assert refused > 30
    (tmp_path / RESULTS).write_text(json.dumps(whole))
    assert read_results(tmp_path) == whole
