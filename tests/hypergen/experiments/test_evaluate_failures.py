"""Evaluations of which a part fails, or that are cut short."""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attacks import AttackError, Threat
from hypergen.cli.main import main
from hypergen.evaluation.evaluator import Evaluator
from hypergen.experiments.evaluate import evaluate_files
from hypergen.experiments.evaluate_config import EvaluateConfig
from hypergen.storage.results_cache import ResultsCache
from hypergen.storage.weights import load_network

QUICK = EvaluateConfig(steps=3, restarts=1, images=20)
THREAT = Threat("linf", 0.03)


@pytest.fixture
def judged(cpu):
    """What is found of files."""

    def judge(*paths: Path, options: EvaluateConfig = QUICK, **rest):
        return evaluate_files(paths, options, cpu, **rest)

    return judge


@pytest.mark.filterwarnings("ignore:assumed")
@pytest.mark.parametrize("sick", ["scaled", "nan"])
def test_a_sick_file_is_named_and_costs_the_others_nothing(sick, judged, base, saved, tmp_path):
    """Among networks of two architectures, wherever it stands."""
    cnn = saved(tmp_path / "cnn.safetensors", "fbf-cnn", seed=1)
    loud = saved(tmp_path / "loud.safetensors", "fbf-cnn", size=1e18)
    if sick == "nan":  # of logits alone: a file of NaN is not opened
        state = load_network(cnn).state_dict()
        state = {name: tensor.sign() * 3e38 for name, tensor in state.items()}
        torch.save(state, tmp_path / "loud.pt")
        loud = tmp_path / "loud.pt"
    options = replace(QUICK, dataset="digits", image_size=8, epsilon=0.1)
    options = replace(options, target="fbf-cnn") if sick == "nan" else options
    alone = {
        file: judged(file, options=replace(options, target=None))["networks"]
        for file in (base, cnn)
    }
    for files in ([base, cnn, loud], [loud, base, cnn], [cnn, loud, base]):
        result = judged(*files, options=options)
        assert list(result["failed"]) == [str(loud)]
        assert result["failed"][str(loud)] == "the model returned NaN or infinite logits"
        sound = [file for file in files if file != loud]
        assert [row["file"] for row in result["networks"]] == [str(file) for file in sound]
        assert result["networks"] == [row for file in sound for row in alone[file]]
        assert result["summary"]["count"] == 2
    only = judged(loud, options=options)
    assert only["networks"] == [] and list(only["failed"]) == [str(loud)]
    assert only["summary"] == {"count": 0}


def test_where_no_network_is_blamed_each_is_tried_alone(judged, base, saved, tmp_path, monkeypatch):
    """As where a gradient is no number though all logits are."""
    other = saved(tmp_path / "other.safetensors", seed=1)
    expected = judged(base)["networks"]
    bad = load_network(other).layers[0].weight
    whole = Evaluator.evaluate

    def evaluate(self, population, *rest):
        if any(torch.equal(network.layers[0].weight, bad) for network in population):
            raise AttackError("the gradient is no number")
        return whole(self, population, *rest)

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)
    result = judged(other, base)
    assert result["networks"] == expected
    assert result["failed"] == {str(other): "the gradient is no number"}


class Stopping(ResultsCache):
    """Is interrupted once it holds so many lines."""

    limit = 2

    def put(self, key, masks):
        if len(self._masks) == self.limit:
            raise KeyboardInterrupt
        super().put(key, masks)


def test_an_evaluation_cut_short_goes_on_and_ends_with_the_same(judged, base, tmp_path):
    path, options = tmp_path / "masks.jsonl", replace(QUICK, images=360, restarts=2)
    with pytest.raises(KeyboardInterrupt):
        judged(base, options=options, cache=Stopping(path))
    begun = path.read_text()
    assert len(begun.splitlines()) == 1 + Stopping.limit
    assert judged(base, options=options, cache=ResultsCache(path)) == judged(base, options=options)
    assert path.read_text().startswith(begun)


@pytest.mark.slow
def test_evaluate_killed_and_run_again_ends_with_the_same_table(base, tmp_path):
    def command(name: str) -> list[str]:
        options = ["--attack", "apgd-t", "--images", "360", "--restarts", "1"]
        return ["evaluate", str(base), *options, "--json", str(tmp_path / name)]

    assert main(command("whole.json")) == 0
    program = [sys.executable, "-m", "hypergen", *command("killed.json")]
    killed = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    record = tmp_path / "killed.masks.jsonl"
    while not (record.exists() and len(record.read_text().splitlines()) >= 3):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed.json").exists()
    found = len(record.read_text().splitlines())
    assert main(command("killed.json")) == 0
    assert len(record.read_text().splitlines()) > found
    whole, again = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("whole", "killed"))
    assert whole == again
