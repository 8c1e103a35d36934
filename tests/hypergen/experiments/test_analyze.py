"""`hypergen analyze`: groups, what is written, and analyses that do not apply."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import hypergen
import targets
from hypergen import catalog
from hypergen.analysis import Analysis, NotApplicable
from hypergen.cli.main import main
from hypergen.errors import InputError
from hypergen.experiments.analyze import AnalyzeConfig, analyze_files
from hypergen.report.analysis import panels, points_by_group
from hypergen.storage.weights import read_metadata
from targets import Population


class Size(Analysis):
    """How many weights a network has, and how long they are."""

    title = "weights"
    figures = {"length": "length of all weights"}

    def rows(self, group, context, progress):
        return [{"length": float(theta.norm())} for theta in group.population.theta]

    def draw(self, groups, rows, context):
        names = [group.name for group in groups]
        values = {name: [r["length"] for r in rows if r["group"] == name] for name in names}
        figure = panels(1, 1, f"length of weights, {context.caption(groups)}")
        points_by_group(figure.subplots(), names, values, "length")
        return figure


class Picky(Size):
    """Looks at samples alone."""

    title = "picky"

    def rows(self, group, context, progress):
        if group.name != "sample":
            raise NotApplicable("only samples have one")
        return super().rows(group, context, progress)


@pytest.fixture
def registered(monkeypatch):
    """Two analyses, and no others."""
    found = catalog.ANALYSES
    monkeypatch.setattr(found, "_source", {"size": Size, "picky": Picky})
    return found


@pytest.fixture
def run_with_baselines(ranged_run, saved, tmp_path):
    """The folder of a run with one FBF and two ordinary networks beside its samples."""
    folder = tmp_path / "run"
    shutil.copytree(ranged_run.folder, folder)
    (folder / "baselines").mkdir()
    for name in ("fbf-0", "standard-0", "standard-1"):
        saved(folder / "baselines" / f"{name}.safetensors", seed=len(name))
    (folder / "baselines" / "pgd-0.checkpoint.safetensors").write_bytes(b"half-trained")
    return folder


QUICK = AnalyzeConfig(images=8, steps=2)


def test_a_run_is_looked_at_beside_its_baselines(registered, run_with_baselines, cpu, tmp_path):
    result = analyze_files([run_with_baselines], QUICK, tmp_path, cpu)
    names = {group["name"]: group["networks"] for group in result["groups"]}
    assert names == {"sample": 2, "fbf": 1, "standard": 2}
    rows = result["analyses"]["size"]["rows"]
    assert [(row["group"], row["network"]) for row in rows] == [
        ("sample", 0),
        ("sample", 1),
        ("fbf", 0),
        ("standard", 0),
        ("standard", 1),
    ]
    assert all(row["length"] > 0 for row in rows)
    assert json.loads((tmp_path / "results.json").read_text()) == result
    assert (tmp_path / "size.png").stat().st_size > 0


def test_what_does_not_apply_is_told_and_costs_the_rest_nothing(
    registered, run_with_baselines, capsys
):
    folder = run_with_baselines
    assert main(["analyze", str(folder), "--images", "4", "--steps", "2"]) == 0
    shown = capsys.readouterr().out
    assert "fbf left out: only samples have one" in shown
    assert (folder / "analysis" / "results.json").exists()
    found = json.loads((folder / "analysis" / "results.json").read_text())["analyses"]["picky"]
    assert {row["group"] for row in found["rows"]} == {"sample"}
    assert found["skipped"].keys() == {"fbf", "standard"}


def test_only_so_many_networks_are_looked_at(registered, run_with_baselines, cpu, tmp_path):
    options = replace(QUICK, count=1, what=("size",))
    result = analyze_files([run_with_baselines], options, tmp_path, cpu)
    assert [group["networks"] for group in result["groups"]] == [1, 1, 1]
    assert result["analyses"].keys() == {"size"}


def test_groups_of_several_runs_say_of_which(registered, ranged_run, saved, cpu, tmp_path):
    file = tmp_path / "one.safetensors"
    saved(file)
    result = analyze_files([ranged_run.folder, file], QUICK, tmp_path / "out", cpu)
    assert [group["name"] for group in result["groups"]] == [
        f"{ranged_run.folder}: sample",
        str(file),
    ]


def test_groups_say_at_which_preference_each_sample_was_drawn(registered, ranged_run, cpu):
    options = replace(QUICK, what=("size",), count=2)
    (group,) = analyze_files([ranged_run.folder], options, None, cpu)["groups"]
    drawn = [read_metadata(Path(file))["beta"] for file in group["files"]]
    assert len(set(drawn)) == 2 and group["preferences"] == [{"beta": beta} for beta in drawn]


def test_a_group_knows_the_run_that_drew_it(registered, run_with_baselines, cpu, tmp_path):
    seen = {}

    class Seeing(Size):
        def rows(self, group, context, progress):
            seen[group.name] = group.sampler
            return super().rows(group, context, progress)

    registered._source["size"] = Seeing
    analyze_files([run_with_baselines], replace(QUICK, what=("size",)), tmp_path, cpu)
    assert len(seen["sample"].draw(3)[0]) == 3
    assert seen["fbf"] is None


class Raising(Size):
    """Breaks on what it looks at."""

    def rows(self, group, context, progress):
        raise ZeroDivisionError("of its own")


class Odd(Size):
    """Gives numbers that JSON does not have, and names of its own."""

    def rows(self, group, context, progress):
        return [{"length": float("nan"), "group": "x", "more": [float("inf"), 1.0]}] * 2


class Tensors(Size):
    """Gives what JSON cannot hold."""

    def rows(self, group, context, progress):
        return [{"length": torch.ones(2)}]


class Undrawn(Size):
    """Draws nothing that can be saved."""

    def draw(self, groups, rows, context):
        return "a picture"


def test_what_breaks_is_told_and_the_others_are_shown(registered, ranged_run, tmp_path, capsys):
    registered._source |= {"raising": Raising, "odd": Odd, "tensors": Tensors, "undrawn": Undrawn}
    words = ["--images", "4", "--steps", "2", "--out", str(tmp_path)]
    assert main(["analyze", str(ranged_run.folder), *words]) == 1
    shown = capsys.readouterr().out
    assert "sample failed: ZeroDivisionError: of its own" in shown
    assert "sample failed: TypeError: a row holds Tensor, which is no number" in shown
    assert "the picture failed: TypeError: draw gave str" in shown
    text = (tmp_path / "results.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    found = json.loads(text)["analyses"]
    assert found["size"]["rows"] and not found["size"]["failed"]
    (first, second) = found["odd"]["rows"]
    assert first == {"length": None, "group": "sample", "more": [None, 1.0], "network": 0}
    assert second["network"] == 1
    assert not (tmp_path / "undrawn.png").exists()


def test_a_further_call_adds_to_what_is_there(registered, ranged_run, cpu, tmp_path):
    path = [ranged_run.folder]
    analyze_files(path, replace(QUICK, what=("size",)), tmp_path, cpu)
    analyze_files(path, replace(QUICK, what=("picky",)), tmp_path, cpu)
    result = json.loads((tmp_path / "results.json").read_text())
    assert result["analyses"].keys() == {"size", "picky"} and len(result["sessions"]) == 2
    with pytest.raises(InputError, match="about other networks or images; choose another `out`"):
        analyze_files(path, replace(QUICK, images=3), tmp_path, cpu)


@pytest.mark.parametrize(
    ("thing", "problem"),
    [
        (lambda: 3, "must be a class derived from hypergen.Analysis"),
        (lambda size: Size(), "cannot be made"),
        (type("Untitled", (Size,), {"title": None}), "must have a title"),
        (type("Free", (Size,), {"cost": 0}), "a cost above 0"),
        (type("Half", (Analysis,), {}), "cannot be made"),
    ],
)
def test_what_is_no_analysis_is_refused(registered, ranged_run, cpu, tmp_path, thing, problem):
    registered._source["own"] = thing
    with pytest.raises(InputError, match=problem):
        AnalyzeConfig(what=("own",))


def test_a_name_is_no_path():
    with pytest.raises(InputError, match='cannot register an analysis as "?.*up'):
        hypergen.register_analysis("../up")


@pytest.mark.parametrize(
    "line, problem",
    [
        ("", "no weight files"),
        ("run run", "is given twice"),
        ("run --what siez", 'unknown analysis "siez" (did you mean "size"?)'),
        ("run --images 0", "images"),
        ("file", "`out`"),
        ("nowhere --out new", "no such file or folder"),
    ],
)
def test_bad_input_is_one_line(
    registered, ranged_run, saved, tmp_path, capsys, monkeypatch, line, problem
):
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "file")
    words = [str(ranged_run.folder) if word == "run" else word for word in line.split()]
    assert main(["analyze", *words]) == 2
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1 and problem.replace("`out`", "--out") in told[0]
    assert not (tmp_path / "new").exists()


def test_networks_in_memory_are_groups_by_their_names(registered, digits):
    mlps = [targets.build("mlp", input_shape=digits.input_shape) for _ in range(3)]
    population = Population.of(mlps)
    found = hypergen.analyze(
        {"mine": population, "theirs": population[0]}, "size", digits, count=2, images=4
    )
    rows = found["analyses"]["size"]["rows"]
    assert [row["group"] for row in rows] == ["mine", "mine", "theirs"]
    assert (
        rows[0]["length"] == rows[2]["length"] == pytest.approx(float(population.theta[0].norm()))
    )


def test_networks_in_memory_need_a_data_set(registered):
    with pytest.raises(InputError, match="give a `dataset`"):
        hypergen.analyze(targets.build("mlp", "relu"))


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ({"a": [], "b": nn.Flatten()}, "each group needs networks"),
        ({1: nn.Flatten(), "1": nn.Flatten()}, "a name of its own"),
        (nn.Sequential(nn.Flatten(), nn.Linear(3, 10)), "no network for images"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), "expected 10 logits"),
    ],
)
def test_networks_that_do_not_fit_are_refused(registered, digits, groups, problem):
    with pytest.raises(InputError, match=problem):
        hypergen.analyze(groups, "size", digits)


def test_memory_and_paths_do_not_mix(registered):
    with pytest.raises(InputError, match="not both"):
        hypergen.analyze([targets.build("mlp", "relu"), "there"])
