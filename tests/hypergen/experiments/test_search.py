"""A search of the latent space: what is measured, kept, judged and written."""

import dataclasses
import json

import pytest
import torch

from hypergen.errors import InputError
from hypergen.evaluation.trade_off import hypervolume, on_front
from hypergen.experiments.latent_search import propose
from hypergen.experiments.search import SearchConfig, kept_of, measure, search
from hypergen.measures.attacked import accuracies
from hypergen.storage.weights import load_network, read_metadata

CONFIG = SearchConfig(candidates=12, budget=6, keep=2, method="nsga2", images=6)


@pytest.fixture(scope="module")
def found(ranged_run, digits, tmp_path_factory):
    """What a search found, and its folder; not to be written to."""
    out = tmp_path_factory.mktemp("search") / "out"
    return search(ranged_run.sampler, digits, out, CONFIG), out


def test_the_folder_holds_what_is_returned(found):
    result, out = found
    assert json.loads((out / "results.json").read_text()) == json.loads(json.dumps(result))
    assert (out / "scatter.png").read_bytes().startswith(b"\x89PNG")
    assert 1 <= len(result["networks"]) <= 2 and len(result["measured"]) == 6
    files = [row["file"] for row in result["networks"]]
    assert sorted(path.name for path in out.glob("*.safetensors")) == sorted(files)


def test_figures_are_those_of_the_written_networks(found, digits):
    result, out = found
    assert (result["attack"]["name"], result["attack"]["split"]) == ("standard", "test")
    for row in result["networks"]:
        network, metadata = load_network(out / row["file"]), read_metadata(out / row["file"])
        for split, figures in (("test", row), ("val", row["val"])):
            images, labels = getattr(digits, split).first(10_000)
            with torch.no_grad():
                right = network(images).argmax(-1) == labels
            assert figures["accuracy"] == pytest.approx(float(right.float().mean()), abs=1e-6)
            assert 0 <= figures["sra"] <= 1
        assert metadata["z"] == row["z"] and metadata["sra"] == row["sra"]
    for split in ("test", "val"):
        rows = [row if split == "test" else row["val"] for row in result["networks"]]
        points = [[row["accuracy"], row["sra"]] for row in rows]
        assert result["hypervolume"][split] == hypervolume(points, 10)


def test_what_is_kept_is_on_the_front_of_what_was_measured(found):
    result, _ = found
    points = [[*row["measured"].values()] for row in result["measured"]]
    front = [
        row["z"] for row, is_on in zip(result["measured"], on_front(points), strict=True) if is_on
    ]
    assert all(row["z"] in front for row in result["networks"])
    rows = [{"measured": {"a": a, "b": b}} for a, b in ((0.9, 0.1), (0.5, 0.5), (0.4, 0.4))]
    assert kept_of(rows, 3, 10) == [rows[1], rows[0]]
    assert kept_of(rows, 1, 10) == [rows[1]]


def test_test_images_choose_nothing(ranged_run, digits, forbid):
    unseen = dataclasses.replace(digits, test=forbid(digits.test))
    candidates = propose(ranged_run.sampler, unseen, 4, "random", seed=0)
    rows = measure(ranged_run.sampler, candidates, [2, 0], unseen.val, images=6, seed=0)
    assert [row["z"] for row in rows] == candidates.z[[2, 0]].tolist()
    population = ranged_run.sampler.generate(candidates.z[[2, 0]], candidates.preference[[2, 0]])
    expected = accuracies(population, *digits.val.first(len(digits.val))).tolist()
    assert [row["measured"]["accuracy"] for row in rows] == pytest.approx(expected)


@pytest.mark.parametrize(
    "measures",
    [("accuracy=0.5", "int8:bits=3=0.5"), ("accuracy=0:1", "robustness=0:1", "int8:bits=3=0:1")],
)
def test_any_measures_are_searched(measures, tiny, few, trained, tmp_path):
    run = trained(tiny.replace(objective="value", measure=measures), tmp_path / "run")
    result = search(run.sampler, few, tmp_path / "out", CONFIG)
    names = {"robustness": "sra"}
    assert result["figures"] == [
        names.get(name, name) for name in result["measured"][0]["measured"]
    ]
    assert "int8:bits=3" in result["summary"]
    images, labels = few.test.first(len(few.test))
    for row in result["networks"]:
        assert sum(row["preference"].values()) == pytest.approx(1)
        with torch.no_grad():
            right = load_network(tmp_path / "out" / row["file"])(images).argmax(-1) == labels
        assert row["accuracy"] == pytest.approx(float(right.float().mean()), abs=1e-6)


def test_one_measure_has_no_front(tiny, few, trained, tmp_path):
    run = trained(tiny.replace(measure=("accuracy=1",)), tmp_path / "run")
    with pytest.raises(InputError, match="accuracy alone as its measure"):
        search(run.sampler, few, tmp_path / "out", CONFIG)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"budget": 40, "candidates": 30}, r"`budget` must be at most `candidates` \(30\), got 40"),
        ({"budget": 3}, r"`keep` must be at most `budget` \(3\), got 8"),
        ({"budget": 0}, "`budget` must be at least 1"),
        ({"method": "best"}, 'unknown method "best"; known: gradient, tpe'),
    ],
)
def test_sizes_that_cannot_be(options, words):
    with pytest.raises(InputError, match=words):
        SearchConfig(**options)
