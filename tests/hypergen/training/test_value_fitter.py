import copy
from functools import partial

import pytest
import torch

import attacks
from hypergen.measures.attacked import predictions
from hypergen.runtime import fitting
from hypergen.training import value_fitter
from hypergen.training.trainer import Trainer
from targets import Population


def test_v_learns_what_the_replay_holds(tiny, few, cpu):
    config = tiny.replace(value_network="statistics", value_learning_rate=0.01)
    fitter = Trainer(config, few, cpu).value_fitter
    features = torch.randn(6, fitter.value.layers[0].in_features)
    fitter.replay.add(features, torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(3, 1))
    before = [parameter.clone() for parameter in fitter.value.parameters()]
    first = fitter.take_steps(1)
    assert fitter.take_steps(200) < 0.2 * first
    for old, new in zip(before, fitter.value.parameters(), strict=True):
        assert not old.equal(new)


def test_what_is_measured_is_accuracy_then_robustness(tiny, few, base_network, cpu):
    trainer = Trainer(tiny.replace(epsilon=0.05), few, cpu)
    fitter, stage = trainer.value_fitter, partial(trainer.adversary.value_stage, 1.0)
    population = Population.of([base_network])
    images, labels = few.val.first(100)
    batch = fitter.prepare(population, images, labels, stage)
    measured = fitter.measure(population, batch, torch.tensor([True]))
    clean = (predictions(population, images) == labels).double().mean()
    robust = (population(batch.prepared["robustness"]).argmax(-1) == labels).double().mean()
    assert measured.tolist() == [[pytest.approx(float(clean)), pytest.approx(float(robust))]]
    assert clean > robust


def test_what_is_measured_does_not_depend_on_how_much_memory_a_gpu_has(tiny, few, cpu, monkeypatch):
    trainer = Trainer(tiny.replace(target="light-cnn"), few, cpu)
    fitter, stage = trainer.value_fitter, partial(trainer.adversary.value_stage, 1.0)
    theta = fitter.perturb_weights(torch.zeros(3, len(fitter.scales)))
    images, labels = few.val.first(20)
    kept, sizes = trainer.population(theta).bytes_kept(images), []
    features, recalibrate = type(fitter.value).features, Population.recalibrate

    def looked(value, chunk, batch):
        sizes.append(len(chunk))
        return features(value, chunk, batch)

    def recalibrated(population, images, batch_size, at_once):
        sizes.append(at_once)
        return recalibrate(population, images, batch_size, at_once)

    monkeypatch.setattr(type(fitter.value), "features", looked)
    monkeypatch.setattr(Population, "recalibrate", recalibrated)

    def found() -> tuple[torch.Tensor, ...]:
        trainer.rng.manual_seed(0)
        population = trainer.population(theta)
        batch = fitter.prepare(population, images, labels, stage)
        everyone = torch.ones(len(population), dtype=torch.bool)
        return fitter.features(population, batch), fitter.measure(population, batch, everyone)

    alone = found()
    assert sizes == [None, 1, 1, 1]
    sizes.clear()
    memory = int(2.5 * kept / fitting.KEPT_SHARE)
    monkeypatch.setattr(fitting, "gpu_memory", lambda device: memory)
    for one, other in zip(found(), alone, strict=True):
        torch.testing.assert_close(one, other)
    assert sizes[0] == 1 and sorted(sizes[1:]) == [1, 2]  # the statistics take more images


def test_v_is_fitted_to_the_value_attacks_images_and_to_copies_by_their_own(
    tiny, few, fresh_mlp, cpu, used, monkeypatch
):
    config = tiny.replace(attack_steps=1, num_perturbed=1, objective="direct", base="base")
    trainer = Trainer(config, few, cpu, fresh_mlp)
    fitter = trainer.value_fitter
    copies, perturb_weights = [], fitter.perturb_weights
    batches, measure = [], fitter.measure

    def perturbed(theta):
        copies.append(perturb_weights(theta))
        return copies[-1]

    def measured(population, batch, chosen):
        batches.append((population, batch))
        return measure(population, batch, chosen)

    monkeypatch.setattr(fitter, "perturb_weights", perturbed)
    monkeypatch.setattr(fitter, "measure", measured)
    metrics = [trainer.take_step() for _ in range(3)]
    assert ["measured/accuracy" in found for found in metrics] == [True, False, True]
    by_value = type(trainer.adversary.value_stage(1.0, 0).attack(config.threat))
    one_step = attacks.RandomFGSM
    assert one_step is not by_value
    measuring = [one_step, by_value, by_value]
    assert [type(attack) for attack in used] == [*measuring, one_step, *measuring]
    (own, own_batch), (population, batch) = batches[-2:]
    assert population.theta.equal(copies[-1])
    features, last = fitter.replay.last(1)
    alone = torch.tensor([True])
    assert last.equal(measure(population, batch, alone))
    assert features.equal(fitter.features(population, batch))
    assert not measure(own, own_batch, alone.expand(len(own)))[:1].equal(last)


def test_perturbed_copies_lie_near_and_far_in_units_of_each_layer(tiny, few, cpu):
    fitter = Trainer(tiny, few, cpu).value_fitter
    moved = fitter.perturb_weights(torch.zeros(200, len(fitter.scales))) / fitter.scales
    least, greatest = value_fitter.PERTURBATIONS
    for slot in fitter.population_of(moved).layout.slots:
        sizes = moved[:, slot.start : slot.stop].square().mean(1).sqrt()
        if slot.stop - slot.start >= 100:
            assert (sizes > 0.7 * least).all() and (sizes < 1.4 * greatest).all()
            assert sizes.min() < 2 * least and sizes.max() > greatest / 2


def test_a_fitter_continued_is_one_never_stopped(tiny, few, cpu, same):
    first, second = (Trainer(tiny.replace(seed=seed), few, cpu) for seed in (0, 1))
    first.take_step()
    fitter, other = first.value_fitter, second.value_fitter
    other.value.load_state_dict(fitter.value.state_dict())
    other.load_state_dict(copy.deepcopy(fitter.state_dict()), cpu)
    second.rng.set_state(first.rng.get_state())
    assert fitter.take_steps(3) == other.take_steps(3)
    assert same(fitter.state_dict(), other.state_dict())
