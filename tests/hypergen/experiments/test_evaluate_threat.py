"""The threat that networks in files are judged by, where the files say it and where they do not."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from hypergen.errors import InputError
from hypergen.experiments.evaluate import evaluate_files
from hypergen.experiments.evaluate_config import EvaluateConfig
from hypergen.storage.weights import read_network, save_network

QUICK = EvaluateConfig(steps=3, restarts=1, images=20)


@pytest.fixture
def judged(cpu):
    """What is found of files."""

    def judge(*paths: Path, options: EvaluateConfig = QUICK):
        return evaluate_files(paths, options, cpu)

    return judge


@pytest.mark.parametrize(
    ("given", "options", "told", "threat"),
    [
        ({}, {}, "`norm` linf and `epsilon` 0.1", ("linf", 0.1)),
        ({"norm": "linf"}, {}, "`epsilon` 0.1", ("linf", 0.1)),
        ({"epsilon": 0.03}, {}, "`norm` linf", ("linf", 0.03)),
        ({"norm": None, "epsilon": 0.03}, {"epsilon": 0.2}, "`norm` linf", ("linf", 0.2)),
        ({"norm": "l1", "epsilon": 4.0}, {"norm": "linf"}, "`epsilon` 0.1", ("linf", 0.1)),
        ({}, {"norm": "l2", "epsilon": 0.5}, None, ("l2", 0.5)),
        ({"norm": "l2", "epsilon": 0.5}, {}, None, ("l2", 0.5)),
    ],
    ids=str,
)
def test_what_neither_files_nor_options_say_is_told(
    judged, base, tmp_path, given, options, told, threat
):
    state, metadata = read_network(base)
    rest = {name: metadata[name] for name in metadata.keys() - {"norm", "epsilon"}}
    path = tmp_path / "net.safetensors"
    save_network(path, state, rest | given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = judged(path, options=replace(QUICK, **options))["attack"]["threat"]
    assert (found["norm"], found["epsilon"]) == threat
    lines = [str(each.message) for each in caught]
    assert lines == ([f"assumed {told}, which {path} does not give"] if told else [])


def test_where_no_radius_is_usual_none_is_assumed(judged, base, tmp_path):
    state, metadata = read_network(base)
    path = tmp_path / "net.safetensors"
    save_network(path, state, {**metadata, "norm": "l2", "epsilon": None})
    with pytest.raises(InputError, match="`epsilon` is needed: there is no usual radius in l2"):
        judged(path)


def test_files_that_say_nothing_beside_one_that_does(judged, base, tmp_path):
    """What it says is taken for all."""
    state, metadata = read_network(base)
    rest = {name: metadata[name] for name in metadata.keys() - {"norm", "epsilon"}}
    paths = [tmp_path / f"{index}.safetensors" for index in range(4)]
    for path in paths:
        save_network(path, state, rest)
    said = tmp_path / "said.safetensors"
    save_network(said, state, {**metadata, "epsilon": 0.03})
    with pytest.warns(
        UserWarning, match=r"^assumed `norm` linf and `epsilon` 0\.03, which "
    ) as one:
        assert judged(*paths, said)["attack"]["threat"]["epsilon"] == 0.03
    assert str(one[0].message).endswith("2.safetensors, ... do not give")
