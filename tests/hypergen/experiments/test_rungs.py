"""What a run tells of itself at rungs, which changes nothing else of it."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import attacks
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments import rungs as module
from hypergen.experiments.run import run, train_generator
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.experiments.rungs import FILE, RUNGS, figures, read_rungs
from hypergen.measures.attacked import attack_population
from hypergen.runtime.progress import SILENT
from hypergen.storage.checkpoint import CHECKPOINT
from tests.hypergen.experiments.runs import Interrupting, same, saving_always, state

NAMES = "accuracy", "robustness"


def wilson(share: float, count: int) -> float:
    """The upper end of the 95 % interval of a share of so many images."""
    z = 1.959963984540054
    centre = share + z * z / (2 * count)
    reach = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return (centre + reach) / (1 + z * z / count)


def test_figures_are_means_of_samples_on_validation_images(ranged_run, digits, forbid):
    sampler = ranged_run.sampler
    before = torch.get_rng_state()
    found = figures(sampler, replace(digits, test=forbid(digits.test), train=forbid(digits.train)))
    assert torch.get_rng_state().equal(before)
    population = sampler.sample(module.NETWORKS, seed=0)
    images, labels = digits.val.first(len(digits.val))
    with torch.no_grad():
        logits = population(images.expand(len(population), *images.shape))
    accuracy = float((logits.argmax(-1) == labels).double().mean())
    attack = attacks.PGD(sampler.config.threat, module.STEPS)
    some, classes = digits.val.first(module.IMAGES)
    robust = attack_population(population, some, classes, attack, 0).robust.double().mean().item()
    assert [*found] == [*NAMES]
    for name, expected, count in (
        ("accuracy", accuracy, len(digits.val)),
        ("robustness", robust, len(some)),
    ):
        mean, upper = found[name]
        assert mean == pytest.approx(expected, abs=0.02)
        # The share is taken as that of a whole number of images.
        assert upper == pytest.approx(wilson(round(mean * count) / count, count))


def trained(config: TrainConfig, few, folder: Path, rungs=RUNGS, progress=SILENT) -> None:
    folder.mkdir(exist_ok=True)
    train_generator(config, few, folder, torch.device("cpu"), progress, rungs)


def test_a_measured_run_trains_as_one_that_is_not(tiny, few, tmp_path):
    names = "accuracy", "robustness", "int8:bits=3"
    config = tiny.replace(measure=tuple(f"{name}=1" for name in names), objective="value")
    trained(config, few, tmp_path / "alone", rungs=())
    trained(config, few, tmp_path / "measured")
    assert same(state(tmp_path / "alone"), state(tmp_path / "measured"))
    assert not (tmp_path / "alone" / FILE).exists()
    found = read_rungs(tmp_path / "measured", names)
    assert [*found] == [*RUNGS] and found[0.25] != found[0.5]
    for means, upper in found.values():
        assert all(0 <= mean < end <= 1 for mean, end in zip(means, upper, strict=True))


def test_a_run_that_is_killed_tells_a_rung_once_and_the_same(tiny, few, tmp_path, monkeypatch):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    trained(tiny, few, whole)
    told = []

    def counted(sampler, dataset):
        told.append(figures(sampler, dataset))
        return told[-1]

    monkeypatch.setattr(module, "figures", counted)
    error = RuntimeError("killed")
    with pytest.raises(RuntimeError):  # after the first rung and before any checkpoint
        trained(tiny, few, killed, progress=Interrupting(2, error))
    assert [*read_rungs(killed, NAMES)] == [0.25] and not (killed / CHECKPOINT).exists()
    saving_always(monkeypatch)
    with pytest.raises(RuntimeError):
        trained(tiny, few, killed, progress=Interrupting(5, error))
    trained(tiny, few, killed)
    assert len(told) == 2 and same(state(killed), state(whole))
    assert (killed / FILE).read_bytes() == (whole / FILE).read_bytes()


def test_who_resumes_a_run_need_not_know_its_rungs(tiny, few, cpu, tmp_path):
    settings = RunSettings(tiny, few.info, ReportConfig(2, 8, 0), False, rungs=RUNGS)
    settings.save(tmp_path)
    run(replace(settings, rungs=()), few, tmp_path, cpu, resume=True)
    assert [*read_rungs(tmp_path, NAMES)] == [*RUNGS]
    assert RunSettings.load(tmp_path) == settings.on(few)


def test_a_damaged_file_is_told(tmp_path):
    path = tmp_path / FILE
    assert read_rungs(tmp_path, NAMES) == {}
    good = {"0.25": {"accuracy": [0.5, 0.6], "robustness": [0.25, 0.5]}}
    path.write_text(json.dumps(good))
    assert read_rungs(tmp_path, NAMES) == {0.25: ([0.5, 0.25], [0.6, 0.5])}
    for damaged in (
        {"x": good["0.25"]},
        {"0.25": 3},
        {"0.25": {"accuracy": [0.5, 0.6]}},
        {"0.25": good["0.25"] | {"accuracy": 0.5}},
        {"0.25": good["0.25"] | {"accuracy": [0.5]}},
        {"0.25": good["0.25"] | {"accuracy": [0.5, 1.5]}},
        {"0.25": good["0.25"] | {"accuracy": ["a", 0.5]}},
    ):
        path.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=r"rungs\.json is damaged"):
            read_rungs(tmp_path, NAMES)


def test_the_settings_of_a_run_hold_its_rungs(tiny, few, tmp_path):
    settings = RunSettings(tiny, few.info, ReportConfig(), rungs=RUNGS)
    settings.save(tmp_path)
    assert RunSettings.load(tmp_path) == settings
    path = tmp_path / "config.json"
    tree = json.loads(path.read_text())
    replace(settings, rungs=()).save(tmp_path)
    assert json.loads(path.read_text()) == {n: v for n, v in tree.items() if n != "rungs"}
    for damaged in (0.5, [1], [0.0], [1.0], ["x"], [None], {}):
        path.write_text(json.dumps(tree | {"rungs": damaged}))
        with pytest.raises(InputError, match="`rungs` must be shares"):
            RunSettings.load(tmp_path)
