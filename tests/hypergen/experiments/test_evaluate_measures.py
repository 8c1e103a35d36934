"""Measures beside accuracy and PGD: figures without training for them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import hypergen
from attacks import PGD, Threat
from hypergen.catalog import MEASURES
from hypergen.cli.main import main
from hypergen.errors import InputError
from hypergen.experiments.evaluate_config import TAKEN, EvaluateConfig, parse_measure
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import Certified, Int8, Square, Stage, build_measure, judged
from hypergen.storage.weights import load_network
from targets import Population
from tests.hypergen.experiments.quick_evaluation import QUICK, asking


@pytest.fixture
def smooth(saved, tmp_path) -> Path:
    """A network that no bounds are known of."""
    return saved(tmp_path / "smooth.safetensors", activation="swish", seed=1)


def test_figures_are_those_of_the_measures_with_their_full_budget(
    found, base, saved, digits, monkeypatch
):
    monkeypatch.setattr("hypergen.measures.square.STRICT_QUERIES", 5)
    cnn = saved(base.parent / "cnn.safetensors", "fbf-cnn", seed=1)
    names = ("certified", "int8:bits=4", "square:queries=2", "robustness:norm=l2,epsilon=1/2")
    files = (base, cnn, saved(base.parent / "other.safetensors", seed=2))
    result = found(*files, options=asking(*names))
    assert result["measures"] == list(names) and result["failed"] == {}
    images, labels = digits.test.first(20)
    stage = Stage(lambda threat: PGD(threat, 2), seed=0)
    for file, row in zip(files, result["networks"], strict=True):
        network = Population.of([load_network(file)])
        for name in names:
            measure = build_measure(MeasureSpec.parse(f"{name}=1"), Threat("linf", 0.02))
            expected = judged([measure], network, images, labels, stage)
            assert row[name] == pytest.approx(float(expected)), name
        assert row["certified"] <= row["pgd"]
    for name in names:
        mean = sum(row[name] for row in result["networks"]) / 3
        assert result["summary"][name]["mean"] == pytest.approx(mean)
    assert json.loads(json.dumps(result)) == result
    without = found(*files, options=QUICK)
    rest = [{n: value for n, value in row.items() if n not in names} for row in result["networks"]]
    assert without["networks"] == rest


def test_a_chosen_step_of_pgd_is_not_taken_in_another_norm(found, base):
    """A step of 0.001 gets nowhere in l2."""
    options = replace(asking("robustness:norm=l2,epsilon=3"), step_size=0.001, images=60)
    (short,) = found(base, options=options)["networks"]
    (usual,) = found(base, options=replace(options, step_size=None))["networks"]
    name = "robustness:norm=l2,epsilon=3"
    assert short[name] == usual[name] < short["pgd"]


def test_networks_in_memory_and_a_measure_of_ones_own(few, base):
    @hypergen.register_measure("ink")
    def ink(population, images, labels, times=1):
        """Mean brightness."""
        return images.mean().clamp(0, 1).expand(len(population)) * times

    population = Population.of([load_network(base)] * 2)
    found = hypergen.evaluate(
        population, few, measures=["ink", "ink:times=1/2"], images=10, steps=1, restarts=1
    )
    expected = float(few.test.first(10)[0].mean())
    for row in found["networks"]:
        assert row["ink"] == pytest.approx(expected)
        assert row["ink:times=1/2"] == pytest.approx(expected / 2)
    with pytest.raises(InputError, match='unknown setting `measure` .did you mean "measures"'):
        hypergen.evaluate(population, few, measure=["ink"])
    with pytest.raises(InputError, match="`measure` looks at single networks, not at an ensemble"):
        hypergen.evaluate(hypergen.ensemble(population), few, measures=["ink"])


# What fails


def test_a_network_that_cannot_be_measured_costs_the_others_nothing(found, base, smooth):
    names = ("certified", "int8")
    alone = found(base, options=asking(*names))["networks"]
    for files in ((smooth, base), (base, smooth)):
        result = found(*files, options=asking(*names))
        line = "certified: cannot bound SiLU in layer layers.1"
        assert result["failed"] == {str(smooth): line}
        rows = {row["file"]: row for row in result["networks"]}
        assert [rows[str(base)]] == alone
        assert {"accuracy", "pgd", "int8"} <= {*rows[str(smooth)]}
        assert "certified" not in rows[str(smooth)]
        assert result["summary"]["certified"]["count"] == 1


def test_the_command_names_it_and_shows_the_rest(base, smooth, tmp_path, capsys):
    line = f"evaluate {base} {smooth} --images 20 --steps 1 --restarts 1 --epsilon 0.02"
    measures = ["--measure", "certified", "--measure", "int8:bits=4"]
    json_file = tmp_path / "figures.json"
    assert main([*line.split(), *measures, "--json", str(json_file)]) == 1
    shown = capsys.readouterr()
    head, first, second, mean = shown.out.splitlines()[:4]
    assert head.split() == ["network", "accuracy", "pgd", "certified", "int8:bits=4"]
    assert second.split()[-2] == "-" and mean.split()[-2] == first.split()[-2]
    assert "certified, int8:bits=4: of the same 20 images" in shown.out
    reason = "cannot be judged: certified: cannot bound SiLU in layer layers.1"
    assert f"{smooth} {reason}" in shown.err
    told = json.loads(json_file.read_text())
    assert told["networks"][0]["certified"] * 100 == pytest.approx(float(first.split()[-2]))
    only = f"evaluate {smooth} --images 5 --steps 1 --restarts 1 --measure certified"
    assert main(only.split()) == 1  # no network has a figure
    assert capsys.readouterr().out.splitlines()[1].split()[-1] == "-"


def test_where_one_of_a_population_fails_the_rest_is_measured_together(found, base, saved):
    """So that `transfer` still is what the others' examples do."""
    files = [saved(base.parent / f"{i}.safetensors", seed=i) for i in range(2)] + [base]
    bad = Population.of([load_network(files[0])]).theta[0]

    @hypergen.register_measure("picky")
    def picky(population, images, labels):
        ill = [torch.equal(theta, bad) for theta in population.theta]
        return torch.tensor([float("nan") if each else len(population) / 10 for each in ill])

    result = found(*files, options=asking("picky"))
    assert list(result["failed"]) == [str(files[0])]
    assert "the measure picky must lie in [0,1], got nan" in result["failed"][str(files[0])]
    assert [row.get("picky") for row in result["networks"]] == [None, *[pytest.approx(0.2)] * 2]


def test_where_none_fails_alone_all_do_together(found, base, saved):
    @hypergen.register_measure("loner")
    def loner(population, images, labels):
        return torch.zeros(1)

    files = [base, saved(base.parent / "other.safetensors", seed=1)]
    result = found(*files, options=asking("loner"))
    assert set(result["failed"]) == set(map(str, files))
    assert "one number for each of 2 networks" in result["failed"][str(base)]
    assert len(result["networks"]) == 2 and "loner" not in result["summary"]


# What is refused


@pytest.mark.parametrize(
    ("measures", "words"),
    [
        (("int8=0.2",), "without a weight, for nothing is trained"),
        (("int8:bits=4=0.2",), "without a weight"),
        (("int8:",), "must be NAME, or with options"),
        (("int8:bits",), "must be NAME, or with options"),
        (("",), "must be NAME, or with options"),
        (("certifed",), 'unknown measure "certifed" .did you mean "certified"'),
        (("int8", "int8"), "int8 is given twice"),
        (("accuracy",), "`measure` accuracy: every evaluation has a figure of that name"),
        (("robustness",), "leave it out, or ask for a measure with options"),
        (("union",), "leave it out, or ask for a measure with options"),
    ],
    ids=str,
)
def test_measures_that_cannot_be_asked_for(measures, words):
    with pytest.raises(InputError, match=words) as told:
        EvaluateConfig(measures=measures)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (asking("int8:bit=4"), 'int8 has no option bit .did you mean "bits"'),
        (asking("int8:bits=1"), "`bits` must be a whole number from 2 to 32"),
        (replace(asking("certified"), norm="l2"), "only linf can be certified, not l2"),
    ],
)
def test_wrong_options_are_told_before_the_work(found, base, options, words, monkeypatch):
    monkeypatch.setattr("hypergen.experiments.evaluate.NetworkGroup", None)
    with pytest.raises(InputError, match=words):
        found(base, options=options)


def test_a_measure_is_read_without_a_weight():
    spec = parse_measure("int8:bits=4,per=tensor")
    assert (spec.name, spec.kind) == ("int8:bits=4,per=tensor", "int8")
    assert spec.options == {"bits": 4, "per": "tensor"}
    threat = Threat("linf", 0.1)
    for text, kind in (("certified", Certified), ("int8:bits=4", Int8), ("square", Square)):
        made = build_measure(parse_measure(text), threat)
        assert isinstance(made, kind) and made.name == text


def test_no_measure_takes_the_place_of_another_figure(found, base, saved, tmp_path):
    files = [base, saved(tmp_path / "kaf.safetensors", activation="kaf", seed=1)]
    files += [saved(tmp_path / "other.safetensors", seed=2)]
    options = replace(QUICK, epsilon=None, norms="linf=0.02,l2=0.5", attack="fgsm", images=5)
    for result in (found(*files, options=options), found(*files[::2], options=options)):
        assert all({*row} <= TAKEN for row in result["networks"])
        assert {*result["summary"]} <= TAKEN
    assert {*MEASURES} & TAKEN == {"accuracy", "robustness", "union"}
