"""What one step of the generator is made of: on which images, how weighed, how far."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import attacks
from hypergen import data, measure, objective, train
from hypergen.baseline import BaselineConfig, BaselineTraining
from hypergen.errors import RunError
from hypergen.measure import predictions
from hypergen.sample import Sampler
from hypergen.train import Training, direct_recipe
from hypergen.weights_file import load_network
from targets import Population


class Forbidden:
    """A split that must not be looked at."""

    def __getattr__(self, name: str):
        raise AssertionError("looked at")


@pytest.fixture
def seen(monkeypatch) -> list[SimpleNamespace]:
    """What the objective was asked at every step."""
    asked, whole = [], objective.gradient

    def gradient(kind, population, batch, weights, *rest):
        asked.append(SimpleNamespace(population=population, batch=batch, weights=weights))
        return whole(kind, population, batch, weights, *rest)

    monkeypatch.setattr(objective, "gradient", gradient)
    return asked


@pytest.fixture
def attacked(monkeypatch) -> list[attacks.Attack]:
    """What attacked the images, in order."""
    used, whole = [], train.attacked_batch

    def attacked_batch(population, images, labels, attack, *rest):
        used.append(attack)
        return whole(population, images, labels, attack, *rest)

    monkeypatch.setattr(train, "attacked_batch", attacked_batch)
    return used


@pytest.mark.parametrize("from_base", [False, True])
def test_accuracy_weighs_1_minus_beta_and_robustness_beta(
    from_base, tiny, few, base, cpu, seen, monkeypatch
):
    """From scratch robustness is asked for little by little, from a base all z is."""
    drawn, spreads, whole = [], [], train.draw_beta

    def draw_beta(*args):
        drawn.append(whole(*args))
        return drawn[-1]

    monkeypatch.setattr(train, "draw_beta", draw_beta)
    start = base if from_base else None
    config = replace(tiny, beta="0:1", warmup=0.5, population=3, base=start and str(start))
    training = Training(config, few, cpu, start)
    latent = training.generator.latent

    class Spied:
        size = latent.size

        def draw(self, count, rng, spread=1.0):
            spreads.append(spread)
            return latent.draw(count, rng, spread)

    training.generator.latent = Spied()
    for _ in range(5):
        training.take_step()
    ramps = [1 / 3, 2 / 3, 1, 1, 1]
    for asked, beta, ramp in zip(seen, drawn, ramps, strict=True):
        robustness = beta if from_base else ramp * beta
        torch.testing.assert_close(asked.weights[:, 1], robustness)
        torch.testing.assert_close(asked.weights[:, 0], 1 - robustness)
        assert beta.unique().numel() == 3
    assert spreads == (pytest.approx(ramps) if from_base else [1.0] * 5)


@pytest.mark.parametrize(
    ("beta", "warmed_up"), [("0", [True, False]), ("0.5", [True, True]), ("1", [False, True])]
)
def test_measures_without_a_weight_are_left_out(beta, warmed_up, tiny, few, cpu, monkeypatch):
    """Of clean images nothing is computed with a beta of 1, once the warm-up is over."""
    training, asked = Training(replace(tiny, beta=beta, warmup=0.5), few, cpu), []
    whole = training.gradients_of
    monkeypatch.setattr(training, "gradients_of", lambda kinds: asked.append(kinds) or whole(kinds))
    for _ in range(5):
        training.take_step()
    warming_up = [True, beta != "0"]
    assert asked == [warming_up] * 2 + [warmed_up] * 3


def test_only_training_images_train_and_none_of_test_is_ever_seen(
    tiny, few, base, cpu, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "WATCHED_SHARE", 0.5)
    unseen = replace(few, test=Forbidden())
    config = replace(tiny, base=str(base), objective="hybrid")
    training = train.train(config, unseen, tmp_path, cpu)  # watched, on validation images
    networks = SimpleNamespace(averaged=training.averaged, value=training.value)
    Sampler(config, networks, 3).estimate(training.sample(2, 0), unseen, 20)
    BaselineTraining(BaselineConfig(target="mlp", epochs=1), unseen, cpu).advance()
    with pytest.raises(AssertionError, match="looked at"):
        unseen.test.first(1)
    trained = Training(config, replace(unseen, val=Forbidden()), cpu, base)
    trained.fit_value_around_start()
    for _ in range(2):
        trained.take_step()


def test_images_are_augmented_before_they_are_attacked(tiny, few, cpu, seen, monkeypatch):
    whole = data.Dataset.augmented
    monkeypatch.setattr(data, "crop_and_flip", lambda images, *_: images * 0 + 0.5)
    assert (whole(replace(few, crop=2), few.train.first(2)[0], None) == 0.5).all()
    Training(tiny, replace(few, crop=2), cpu).take_step()
    assert (seen[0].batch.images == 0.5).all()
    assert ((seen[0].batch.attacked - 0.5).abs() <= tiny.training_threat.epsilon + 1e-6).all()


def test_the_learning_rate_is_a_cosine_after_a_short_warm_up(tiny, few, cpu):
    for schedule in ("cosine", "constant"):
        config = replace(tiny, steps=60, schedule=schedule, learning_rate=0.01)
        training = Training(config, few, cpu)
        for training.step in range(60):
            training.schedule()
            expected = 0.01
            if schedule == "cosine":
                expected *= min(1, (training.step + 1) / 20)
                expected *= math.cos(math.pi * training.step / 120) ** 2
            (group,) = training.optimizer.param_groups
            assert group["lr"] == pytest.approx(expected, rel=1e-4)


def test_the_gradient_is_the_mean_over_networks_clipped_at_1(tiny, few, cpu, monkeypatch):
    training = Training(replace(tiny, population=3), few, cpu)
    z, beta = torch.randn(3, training.generator.latent.size), torch.full((3,), 0.5)
    monkeypatch.setattr(train, "draw_beta", lambda *_: beta)
    training.generator.latent = SimpleNamespace(draw=lambda *_: z)
    parameters = list(training.generator.parameters())
    slope = torch.randn(3, training.layout.size)
    theta = training.generator(z, beta)
    expected = torch.autograd.grad((slope * theta).sum() / 3, parameters)
    norm = float(torch.cat([g.flatten() for g in expected]).norm())
    for size in (0.5 / norm, 1e4 / norm):
        monkeypatch.setattr(
            objective, "gradient", lambda *_, size=size: (torch.zeros(3), size * slope)
        )
        monkeypatch.setattr(training.optimizer, "step", lambda: None)  # the weights stay
        assert training.take_step()["gradient_norm"] == pytest.approx(size * norm, rel=1e-3)
        for parameter, wanted in zip(parameters, expected, strict=True):
            torch.testing.assert_close(
                parameter.grad, wanted * min(size, 1 / norm), rtol=1e-3, atol=1e-7
            )


@pytest.mark.parametrize(
    "what", ["generated weights are", "gradient is", "generator is", "value network is"]
)
def test_what_diverged_is_told(what, tiny, few, cpu, monkeypatch):
    training = Training(tiny, few, cpu)

    def spoil(network):
        next(network.parameters()).data.fill_(float("nan"))

    if what == "generated weights are":
        spoil(training.generator)
    elif what == "gradient is":
        whole = objective.gradient
        monkeypatch.setattr(
            objective, "gradient", lambda *args: (whole(*args)[0], whole(*args)[1] * torch.nan)
        )
    elif what == "generator is":
        monkeypatch.setattr(training.optimizer, "step", lambda: spoil(training.generator))
    else:
        monkeypatch.setattr(training, "value_steps", lambda _: spoil(training.value) or 0.0)
    with pytest.raises(RunError, match=f"diverged at step 0: the {what} NaN"):
        training.take_step()
    assert training.step == 0


def test_the_optimisers_decay_weights_as_asked(tiny, few, cpu):
    training = Training(replace(tiny, weight_decay=0.25, value_weight_decay=0.125), few, cpu)
    assert training.optimizer.param_groups[0]["weight_decay"] == 0.25
    assert training.value_optimizer.param_groups[0]["weight_decay"] == 0.125


def test_v_learns_what_the_replay_holds(tiny, few, cpu):
    config = replace(tiny, value_network="statistics", value_learning_rate=0.01)
    training = Training(config, few, cpu)
    evidence = torch.randn(6, training.value.layers[0].in_features)
    training.replay.add(evidence, torch.tensor([[0.0, 1.0], [1.0, 0.0]]).repeat(3, 1))
    before = [parameter.clone() for parameter in training.value.parameters()]
    first = training.value_steps(1)
    assert training.value_steps(200) < 0.2 * first
    for old, new in zip(before, training.value.parameters(), strict=True):
        assert not old.equal(new)


def test_what_is_measured_is_accuracy_then_robustness(tiny, few, base, cpu):
    training = Training(replace(tiny, epsilon=0.05), few, cpu)
    population = Population.of([load_network(base)])
    images, labels = few.val.first(100)
    batch = training.attacked(population, images, labels, training.measurer)
    _, measured = training.measured(population, batch)
    clean = (predictions(population, images) == labels).float().mean()
    robust = (population(batch.attacked).argmax(-1) == labels).float().mean()
    assert measured.tolist() == [[pytest.approx(float(clean)), pytest.approx(float(robust))]]
    assert clean > robust


def test_what_is_measured_does_not_depend_on_how_much_memory_a_gpu_has(tiny, few, cpu, monkeypatch):
    training = Training(replace(tiny, target="light-cnn"), few, cpu)
    theta = training.near(torch.zeros(3, training.layout.size)).theta
    images, labels = few.val.first(20)
    kept, sizes = training.population(theta).bytes_kept(images), []
    evidence, recalibrate = type(training.value).evidence, Population.recalibrate

    def looked(value, piece, batch):
        sizes.append(len(piece))
        return evidence(value, piece, batch)

    def recalibrated(population, images, batch_size, at_once):
        sizes.append(at_once)
        return recalibrate(population, images, batch_size, at_once)

    monkeypatch.setattr(type(training.value), "evidence", looked)
    monkeypatch.setattr(Population, "recalibrate", recalibrated)

    def found() -> tuple[torch.Tensor, ...]:
        training.rng.manual_seed(0)
        population = training.population(theta)
        batch = training.attacked(population, images, labels, training.measurer)
        return training.measured(population, batch)

    alone = found()
    assert sizes == [None, 1, 1, 1]
    sizes.clear()
    memory = int(2.5 * kept / measure.KEPT_SHARE)
    monkeypatch.setattr(measure, "memory_of", lambda device: memory)
    for one, other in zip(found(), alone, strict=True):
        torch.testing.assert_close(one, other)
    assert sizes[0] == 1 and sorted(sizes[1:]) == [1, 2]  # the statistics take more images


def test_v_is_fitted_to_the_measurers_images_and_to_copies_by_their_own(
    tiny, few, base, cpu, attacked, monkeypatch
):
    near, whole = [], Training.near

    def spied(training, theta):
        near.append(whole(training, theta))
        return near[-1]

    monkeypatch.setattr(Training, "near", spied)
    config = replace(tiny, attack_steps=1, perturbed=1, objective="direct", base=str(base))
    training = Training(config, few, cpu, base)
    batches, measure = [], Training.measured

    def measured(training, population, batch):
        batches.append((population, batch))
        return measure(training, population, batch)

    monkeypatch.setattr(Training, "measured", measured)
    figures = [training.take_step(), training.take_step(), training.take_step()]
    assert ["measured/accuracy" in found for found in figures] == [True, False, True]
    kinds = [type(attack) for attack in attacked]
    measurer = type(training.measurer)
    one_step = attacks.RandomFGSM
    assert one_step is not measurer
    assert kinds == [one_step, measurer, measurer, one_step, one_step, measurer, measurer]
    population, batch = batches[-1]
    assert population is near[-1]
    evidence, worth = training.replay.last(1)
    again = measure(training, population, batch)
    assert worth.equal(again[1]) and evidence.equal(again[0])
    own, _ = batches[-2]
    assert not measure(training, own, batches[-2][1])[1][:1].equal(worth)


def test_perturbed_copies_lie_near_and_far_in_units_of_each_layer(tiny, few, cpu):
    training = Training(tiny, few, cpu)
    theta = torch.zeros(200, training.layout.size)
    apart = training.near(theta).theta / training.scales
    least, greatest = train.PERTURBATIONS
    for slot in training.layout.slots:
        sizes = apart[:, slot.start : slot.stop].square().mean(1).sqrt()
        if slot.stop - slot.start >= 100:
            assert (sizes > 0.7 * least).all() and (sizes < 1.4 * greatest).all()
            assert sizes.min() < 2 * least and sizes.max() > greatest / 2


def test_samples_are_the_averaged_generators(tiny, few, cpu):
    training = Training(tiny, few, cpu)
    training.take_step()
    before = training.sample(2, seed=1)
    for parameter in training.generator.parameters():
        parameter.data.zero_()
    assert training.sample(2, seed=1).theta.equal(before.theta)
    for parameter in training.averaged.parameters():
        parameter.data.zero_()
    assert not training.sample(2, seed=1).theta.equal(before.theta)


def test_a_gap_that_was_watched_is_heeded(tiny, few, cpu, monkeypatch):
    monkeypatch.setattr(train, "WATCHED_SHARE", 0.5)
    gaps = iter([1.0, 0.0])
    monkeypatch.setattr(Training, "watch", lambda _: {"watched/gap": next(gaps)})
    training = Training(replace(tiny, steps=9), few, cpu)
    steps = []
    while training.step < 9:
        training.advance()
        steps.append(training.attack_steps)
    first = tiny.attack_steps
    assert steps == [first] * 3 + [2 * first] * 6
    assert training.draw_seed() != training.draw_seed()


def test_a_run_and_its_direct_networks_share_target_activation_and_threat(tiny):
    config = replace(tiny, activation="elu", target="lenet5", norm="l2", epsilon=1.5)
    recipe = direct_recipe(config, "pgd", 7)
    for name in ("dataset", "target", "activation", "norm", "epsilon", "threat"):
        assert getattr(recipe, name) == getattr(config, name)
    assert (recipe.method, recipe.seed) == ("pgd", 7)
