"""Groups of networks side by side."""

import json
from dataclasses import replace

import pytest
import torch

from hypergen.cli.main import main
from hypergen.errors import InputError
from hypergen.evaluation.statistics import paired_error
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments.side_by_side import CompareConfig, compare, differing, runs_of
from hypergen.report.verdict import difference
from hypergen.storage.results_cache import ResultsCache
from hypergen.storage.weights import load_network

QUICK = CompareConfig(attack="pgd", steps=2, images=12)


@pytest.fixture(scope="module")
def group(saved, tmp_path_factory):
    """A folder of three networks."""
    folder = tmp_path_factory.mktemp("group")
    for index, size in enumerate((1.0, 2.0, 4.0)):
        saved(folder / f"{index}.safetensors", size=size)
    return folder


@pytest.fixture
def result(group, ranged_run, cpu):
    return compare([ranged_run.folder, group], QUICK, cpu)


def test_every_group_has_its_networks_and_their_means(result, group, ranged_run, digits):
    first, second = result["groups"]
    assert (first["path"], second["path"]) == (str(ranged_run.folder), str(group))
    assert [len(first["networks"]), len(second["networks"])] == [2, 3]
    images, labels = digits.test.first(len(digits.test))
    for row in second["networks"]:
        with torch.no_grad():
            right = load_network(row["file"])(images).argmax(-1) == labels
        assert row["accuracy"] == pytest.approx(float(right.float().mean()), abs=1e-6)
    for own in (first, second):
        points = [[row["accuracy"], row["robustness"]] for row in own["networks"]]
        assert own["hypervolume"] == hypervolume(points, 10)
        assert own["summary"]["accuracy"]["mean"] == pytest.approx(
            sum(point[0] for point in points) / len(points)
        )
        assert 0 <= own["disagreement"] <= 1


def test_differences_are_paired_image_by_image(result, digits):
    first, second = result["groups"]
    images, labels = digits.test.first(len(digits.test))
    with torch.no_grad():
        right = [
            torch.stack([load_network(file)(images).argmax(-1) == labels for file in files])
            for files in ([row["file"] for row in own["networks"]] for own in (first, second))
        ]
    means = [mask.double().mean(0) for mask in right]
    expected = difference(
        "accuracy",
        *([row["accuracy"] for row in own["networks"]] for own in (second, first)),
        paired_error(means[1] - means[0]),
    )
    found = second["differences"]["accuracy"]
    assert found["mean"] == pytest.approx(expected.mean)
    assert [found["low"], found["high"]] == pytest.approx([expected.low, expected.high])
    assert "differences" not in first


def test_a_group_beside_itself_differs_in_nothing(group, cpu, tmp_path):
    (tmp_path / "link").symlink_to(group)
    _, again = compare([group, tmp_path / "link"], QUICK, cpu)["groups"]
    for name in ("accuracy", "robustness"):
        apart = again["differences"][name]
        assert apart["mean"] == 0 and apart["low"] == pytest.approx(-apart["high"])


def test_a_sweep_stands_for_the_runs_on_its_front(tmp_path):
    assert runs_of(tmp_path) == [tmp_path]
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match="has no front yet"):
        runs_of(tmp_path)
    trials = [
        {"kind": kind, "run": f"/where/it/was/trial-000{number}"}
        for number, kind in enumerate(("front", "dominated", "front"))
    ]
    (tmp_path / "results.json").write_text(json.dumps({"trials": trials}))
    assert runs_of(tmp_path) == [tmp_path / "trial-0000", tmp_path / "trial-0002"]
    for damage in ({}, {"trials": 1}, {"trials": [1]}, {"trials": [{"kind": "front", "run": 1}]}):
        (tmp_path / "results.json").write_text(json.dumps(damage))
        with pytest.raises(InputError, match="is damaged"):
            runs_of(tmp_path)


def test_settings_in_which_groups_differ():
    settings = [{"steps": 10, "beta": "0.5", "norm": "l2"}, {"steps": 20, "beta": "0.5"}, {}]
    assert differing(settings) == {"steps": [10, 20, None]}
    assert differing([{"steps": 10}, {}]) == {}  # which only one of them has


def test_runs_are_told_apart_by_their_settings(ranged_run, tiny, few, trained, tmp_path, cpu):
    other = trained(tiny, tmp_path / "other")
    settings = compare([ranged_run.folder, other.folder], QUICK, cpu)["settings"]
    assert settings["steps"] == [25, tiny.optimisation.steps]
    assert settings["beta"] == ["0:0.8", tiny.objective.beta] and "target" not in settings


def test_what_was_found_is_not_found_again(group, ranged_run, cpu, tmp_path, monkeypatch):
    paths, cache = [ranged_run.folder, group], tmp_path / "masks.jsonl"
    first = compare(paths, QUICK, cpu, cache=ResultsCache(cache))
    before = cache.read_bytes()
    again = compare(paths, QUICK, cpu, cache=ResultsCache(cache))
    assert again == first and cache.read_bytes() == before


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ((), "needs two paths at least"),
        (("{run}",), "needs two paths at least"),
        (("{run}", "{run}"), "is given twice"),
        (("{run}", "none"), "no such file or folder: none"),
    ],
)
def test_groups_that_cannot_be(paths, words, ranged_run, cpu):
    named = [ranged_run.folder if path == "{run}" else ranged_run.folder / path for path in paths]
    with pytest.raises(InputError, match=words.replace("none", ".*none")):
        compare(named, QUICK, cpu)


def test_networks_of_a_group_are_of_one_architecture(ranged_run, saved, tmp_path, cpu):
    (tmp_path / "mixed").mkdir()
    saved(tmp_path / "mixed" / "a.safetensors")
    saved(tmp_path / "mixed" / "b.safetensors", target="fbf-cnn")
    with pytest.raises(InputError, match="several architectures: name them one by one"):
        compare([ranged_run.folder, tmp_path / "mixed"], QUICK, cpu)
    single = [tmp_path / "mixed" / f"{name}.safetensors" for name in "ab"]
    found = compare(single, replace(QUICK, attack="standard"), cpu)
    assert [own["disagreement"] for own in found["groups"]] == [None, None]
    assert {"accuracy", "pgd", "sra"} <= set(found["groups"][1]["summary"])


def test_the_command_writes_and_shows_it(group, ranged_run, tmp_path, capsys):
    file, picture = tmp_path / "figures.json", tmp_path / "points.png"
    command = ["compare", str(ranged_run.folder), str(group), "--attack", "pgd", "--steps", "2"]
    command += ["--images", "12", "--json", str(file), "--picture", str(picture)]
    assert main(command) == 0
    figures, shown = json.loads(file.read_text()), capsys.readouterr().out
    apart = figures["groups"][1]["differences"]["accuracy"]
    assert f"{100 * apart['mean']:+.1f} ({100 * apart['low']:+.1f} to " in shown
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(command) == 0  # over its own earlier result
    assert json.loads(file.read_text()) == figures
    capsys.readouterr()
    assert main([*command[:2], "--json", str(file)]) == 2
    assert "two paths at least" in capsys.readouterr().err
