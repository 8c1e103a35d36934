"""The Python API: names or objects, nothing printed, nothing of the caller's touched."""

import copy
import doctest
import json
import math
import pickle

import pytest
import torch

import attacks
import hypergen
from hypergen.experiments import api, objects, registration
from hypergen.experiments.run_folder import RunSettings
from hypergen.training.direct_config import BaselineConfig
from tests.hypergen.experiments.calls import QUICK, TINY, same
from tests.hypergen.experiments.runs import timeless

pytestmark = pytest.mark.usefixtures("registries")


@pytest.mark.parametrize("module", [api, objects, registration], ids=lambda module: module.__name__)
def test_the_examples_run(module):
    names = {"hypergen": hypergen, "torch": torch, "math": math, "attacks": attacks}
    result = doctest.testmod(module, extraglobs=names)
    assert result.failed == 0


def test_every_public_function_has_an_example():
    for name in api.__all__:
        assert ">>>" in (getattr(api, name).__doc__ or ""), name


# train


def test_the_same_call_resumes_and_gives_the_same(few, tmp_path, untouched):
    with untouched():
        first = hypergen.train(target="mlp", dataset=few, out=tmp_path / "run", **TINY)
    checkpoint = (tmp_path / "run" / "checkpoint.safetensors").stat().st_mtime_ns
    with untouched():
        again = hypergen.train(target="mlp", dataset=few, out=str(tmp_path / "run"), **TINY)
    assert (tmp_path / "run" / "checkpoint.safetensors").stat().st_mtime_ns == checkpoint
    assert json.dumps(again.results) == json.dumps(first.results)
    elsewhere = hypergen.train(target="mlp", dataset=few, out=tmp_path / "other", **TINY)
    assert timeless(elsewhere.results) == timeless(first.results)  # whatever dtype is default
    for one, other in zip(first.sample(3), again.sample(3), strict=True):
        assert same(one, other)
    with pytest.raises(hypergen.InputError, match="started with other settings .seed: 0, not 1"):
        hypergen.train(target="mlp", dataset=few, out=tmp_path / "run", seed=1, **TINY)
    assert "accuracy" in str(first)


def test_a_configuration_and_options_in_its_place(few, tmp_path):
    config = hypergen.TrainConfig.of(target="mlp", seed=5, beta=(0.2, 0.6))
    run = hypergen.train(config, dataset=few, out=tmp_path, **TINY)
    assert run.settings.config == config.replace(
        **{name: value for name, value in TINY.items() if name in config.flat()}
    )
    assert RunSettings.load(tmp_path) == run.settings
    assert 0.2 <= run.results["networks"][0]["beta"] <= 0.6
    with pytest.raises(hypergen.InputError, match='unknown setting `stepz` .did you mean "steps"'):
        hypergen.train(stepz=3)
    with pytest.raises(hypergen.InputError, match="`samples` must be at least 1"):
        hypergen.train(dataset=few, samples=0)


def test_progress_is_shown_when_asked_for(few, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("hypergen.runtime.progress.LINE_SECONDS", 0.0)
    hypergen.train(target="mlp", dataset=few, out=tmp_path, progress=True, **TINY)
    out, err = capfd.readouterr()
    assert out == "" and "training" in err and "left" in err


# What comes of it


def test_a_run_can_be_copied_and_opened_again(ranged_run, untouched):
    with untouched():
        population = hypergen.load_generator(ranged_run.folder).sample(3, beta=0.4, seed=2)
        network, voters = population[0], hypergen.ensemble(population)
    assert population.theta.equal(ranged_run.sample(3, beta=0.4, seed=2).theta)
    images = torch.rand(4, 1, 8, 8)
    mean = torch.stack([each(images).softmax(-1) for each in population]).mean(0)
    torch.testing.assert_close(voters(images).exp(), mean)
    for thing in (population, voters, network):
        copied, pickled = copy.deepcopy(thing), pickle.loads(pickle.dumps(thing))
        inputs = images.expand(3, *images.shape) if thing is population else images
        assert copied(inputs).equal(thing(inputs)) and pickled(inputs).equal(thing(inputs))


def test_a_network_of_a_run_can_be_exported(ranged_run, tmp_path, untouched):
    with untouched():
        network = ranged_run.sample(1)[0]
        path = hypergen.export(network, tmp_path / "net.safetensors")
    assert same(hypergen.load_network(path), network)


def test_a_baseline(few, tmp_path, untouched):
    options = {"dataset": few, "target": "mlp", "epochs": 1, "device": "cpu"}
    with untouched():
        made = hypergen.baseline(method="standard", out=tmp_path / "a", **options)
    assert same(hypergen.load_network(made.file), made.network) and 0 <= made.accuracy <= 1
    config = BaselineConfig.of(method="standard")
    again = hypergen.baseline(config, out=tmp_path / "b", **options)
    assert same(again.network, made.network)
    with pytest.raises(hypergen.InputError, match="exists; choose another `out`"):
        hypergen.baseline(config, out=tmp_path / "b", **options)


# evaluate


def test_networks_in_memory_are_judged_as_their_files(ranged_run, few, untouched):
    folder = ranged_run.folder / "samples"
    files = sorted(folder.iterdir())
    networks = [hypergen.load_network(file) for file in files]
    population = hypergen.Population.of(networks)
    with untouched():
        expected = hypergen.evaluate(ranged_run.folder, **QUICK)
        ways = [
            hypergen.evaluate(population, "digits", image_size=8, **QUICK),
            hypergen.evaluate(population, few, **QUICK),
            hypergen.evaluate(networks, dataset="digits", image_size=8, **QUICK),
            hypergen.evaluate([population[:1], networks[1]], dataset=few, **QUICK),
            hypergen.evaluate(ranged_run, few, **QUICK),
            hypergen.evaluate([str(file) for file in files], **QUICK),
        ]
    for way in ways:
        assert way["summary"] == expected["summary"] and way["failed"] == {}


def test_voters_are_judged_as_one(ranged_run, few):
    population = ranged_run.sample(2)
    found = hypergen.evaluate(population, few, ensemble=True, **QUICK)["ensemble"]["voting"]
    (row,) = hypergen.evaluate(hypergen.ensemble(population), few, **QUICK)["networks"]
    assert row["accuracy"] == found["accuracy"] and row["pgd"] == found["pgd"]
    mixed = [population[0], hypergen.ensemble(population), hypergen.ensemble(population)]
    rows = hypergen.evaluate(mixed, few, **QUICK)["networks"]
    assert [each["file"] for each in rows] == [f"network {index}" for index in range(3)]
    assert rows[1]["accuracy"] == rows[2]["accuracy"] == row["accuracy"]
    with pytest.raises(hypergen.InputError, match="`checks` looks at single networks"):
        hypergen.evaluate(mixed, few, checks=True, **QUICK)


def test_what_cannot_be_judged(ranged_run, few, base):
    network = ranged_run.sample(1)[0]
    for networks, options, words in (
        ([], {"dataset": few}, "expected networks in memory, or paths"),
        (3, {"dataset": few}, "expected networks or paths of some, got int"),
        ([network, base], {"dataset": few}, "and not both"),
        (network, {}, "give a `dataset`"),
        (network, {"dataset": "nowhere"}, 'unknown data set "nowhere"'),
        (
            network,
            {"dataset": few, "atack": "pgd"},
            "unknown setting `atack` .did you mean",
        ),
        ("no/such/file", {}, "no such file or folder"),
    ):
        with pytest.raises(hypergen.InputError, match=words) as told:
            hypergen.evaluate(networks, **options)
        assert "\n" not in str(told.value)


# attack


def test_an_attack_by_name_and_as_an_object(base, few, untouched):
    network = hypergen.load_network(base)
    images, labels = few.test.first(20)
    by_name = hypergen.attack("pgd", network, images, labels, epsilon=0.1, steps=5, seed=3)
    own = attacks.PGD(attacks.Threat("linf", 0.1), steps=5)
    with untouched():
        found = hypergen.attack(own, network, images.numpy(), labels.tolist(), seed=3)
    assert found.images.equal(by_name.images)
    assert found.robust_mask.equal(by_name.robust_mask)
    assert found.robust_mask.equal(network(found.images).argmax(1) == labels)
    plain = hypergen.attack(
        "pgd", lambda x: network(x), images, labels, epsilon=0.1, steps=5, seed=3
    )
    assert plain.robust_mask.equal(found.robust_mask)
    with pytest.raises(hypergen.InputError, match='unknown attack "pdg" .did you mean "pgd"'):
        hypergen.attack("pdg", network, images, labels, epsilon=0.1)
