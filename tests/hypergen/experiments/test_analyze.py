"""`hypergen analyze`: groups, what is written, and analyses that do not apply."""

import json
import shutil
from dataclasses import replace

import pytest

import hypergen
import targets
from hypergen import catalog
from hypergen.analysis import Analysis, NotApplicable
from hypergen.cli.main import main
from hypergen.errors import InputError
from hypergen.experiments.analyze import AnalyzeConfig, analyze_files
from hypergen.report.analysis import panels, points_by_group
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
    population = Population.of([targets.build("mlp", "relu") for _ in range(3)])
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


def test_memory_and_paths_do_not_mix(registered):
    with pytest.raises(InputError, match="not both"):
        hypergen.analyze([targets.build("mlp", "relu"), "there"])
