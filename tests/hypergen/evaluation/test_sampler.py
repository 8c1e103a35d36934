"""Networks drawn from a generator, and what V estimates of them."""

import copy
import pickle
from dataclasses import replace

import pytest
import torch

from hypergen.config import TrainConfig
from hypergen.data import Dataset, DatasetInfo, Split
from hypergen.errors import InputError
from hypergen.evaluation import sampler as module
from hypergen.evaluation.sampler import Sampler
from hypergen.measures import prepare_batch
from hypergen.models.bundle import ModelBundle
from hypergen.storage.weights import load_network, save_network
from targets import Population

STEPS = 3


@pytest.fixture(scope="module")
def sampler(few) -> Sampler:
    """Of a fresh generator for preferences in [0, 0.8], that knows them apart."""
    config = TrainConfig.of(target="mlp", beta="0:0.8")
    models = ModelBundle.fresh(config, few.info)
    with torch.no_grad():
        models.ema.module.offsets += 0.1 * torch.arange(len(models.ema.module.offsets))[:, None]
    return Sampler(config, few.info, models, STEPS)


def test_the_seed_decides_what_is_drawn(sampler):
    theta, z, betas = sampler.draw(4, seed=3)
    again, same_z, same_betas = sampler.draw(4, seed=3)
    assert theta.theta.equal(again.theta) and z.equal(same_z) and betas.equal(same_betas)
    other = sampler.draw(4, seed=4)
    assert not (other[1] == z).any() and not other[0].theta.equal(theta.theta)
    assert z.shape == (4, 16) and len(theta) == 4
    assert sampler.sample(4, seed=3).theta.equal(theta.theta)


def test_two_preferences_give_two_networks(sampler):
    accurate, z, betas = sampler.draw(3, beta=0.0, seed=5)
    robust, same_z, other_betas = sampler.draw(3, beta=0.8, seed=5)
    assert z.equal(same_z) and betas.tolist() == [0, 0, 0]
    assert other_betas.tolist() == pytest.approx([0.8] * 3)
    assert (accurate.theta - robust.theta).abs().max() > 1e-3


def test_without_a_preference_they_are_spread_over_the_range(sampler):
    betas = sampler.draw(200, seed=0)[2]
    assert 0 <= betas.min() < 0.1 and 0.7 < betas.max() <= 0.8


@pytest.mark.parametrize("beta", [0.81, 1.0, -0.1, float("nan")])
def test_a_preference_never_trained_for_is_refused(sampler, beta):
    with pytest.raises(InputError, match=r"trained for `beta` in \[0, 0.8\]"):
        sampler.draw(1, beta=beta)


@pytest.mark.parametrize("count", [0, -1])
def test_at_least_one_is_drawn(sampler, count):
    with pytest.raises(InputError, match=f"`count` must be at least 1, got {count}"):
        sampler.sample(count)


def test_the_users_state_neither_matters_nor_moves(sampler):
    expected = sampler.sample(2, seed=1).theta
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            found = sampler.sample(2, seed=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.theta.equal(expected) and found.theta.dtype == torch.float32
    assert not found.theta.is_inference() and not found.theta.requires_grad
    assert torch.get_rng_state().equal(before)


def test_copies_and_pickles_draw_the_same(sampler):
    expected = sampler.sample(2, seed=1).theta
    for other in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert other.sample(2, seed=1).theta.equal(expected)


def test_estimates_stand_for_the_radius_judged(sampler, digits):
    population = sampler.sample(2)
    wide = sampler.config.replace(epsilon_factor=3.0)
    other = Sampler(wide, sampler.info, sampler.models, STEPS)
    mine, its = (s.estimate(population, digits)[0] for s in (sampler, other))
    assert mine.equal(its) and mine.shape == (2, 2)
    far = Sampler(wide.replace(epsilon=0.3), sampler.info, sampler.models, STEPS)
    assert not far.estimate(population, digits)[0].equal(mine)


def test_estimates_are_of_attacked_validation_images(sampler, digits):
    population = sampler.sample(2)
    estimated = sampler.estimate(population, digits)[0]
    blind = replace(digits, train=digits.train.head(5), test=digits.test.head(5))
    assert sampler.estimate(population, blind)[0].equal(estimated)
    other = replace(digits, val=digits.train)
    assert not sampler.estimate(population, other)[0].equal(estimated)


def test_estimates_do_not_depend_on_how_many_are_in_memory(sampler, digits, monkeypatch):
    population = sampler.sample(5)
    together, _ = sampler.estimate(population, digits)
    sizes = []

    def watched(measures, some, *args):
        sizes.append(len(some))
        return prepare_batch(measures, some, *args)

    monkeypatch.setattr(module, "prepare_batch", watched)
    monkeypatch.setattr(module, "ESTIMATION_CHUNK", 2)
    assert sampler.estimate(population, digits)[0].equal(together)
    assert sizes == [2, 2, 1]


def test_one_value_network_is_never_unsure(sampler, few, digits):
    population = sampler.sample(3)
    assert not sampler.estimate(population, digits)[1].any()
    config = sampler.config.replace(value_members=3)
    several = Sampler(config, few.info, ModelBundle.fresh(config, few.info), STEPS)
    uncertainty = several.estimate(population, digits)[1]
    assert uncertainty.shape == (3, 2) and (uncertainty > 0).all()


def test_batch_norm_is_calibrated_on_images_as_training_sees_them():
    pixels = torch.randint(256, (32, 3, 32, 32), dtype=torch.uint8)
    part = Split(pixels, torch.arange(32) % 10)
    names = tuple(map(str, range(10)))
    info = DatasetInfo("cifar10", (3, 32, 32), names, 8 / 255, crop=4, flip=True)
    colours = Dataset(info, part, part, part)
    images, plain = colours.calibration_images(1024), part.first(1024)[0]
    assert images.equal(colours.calibration_images(1024))  # always alike
    assert images.shape == plain.shape and not images.equal(plain)
    config = TrainConfig.of(dataset="cifar10", target="light-cnn")
    population = Sampler(config, info, ModelBundle.fresh(config, info), 1, colours).sample(2)
    for network in population:
        normalize, convolution, norm = list(network.children())[0][:3]
        with torch.no_grad():
            mean = convolution(normalize(images)).mean((0, 2, 3))
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-4, atol=1e-4)


def test_networks_with_batch_norm_are_the_same_alone_together_and_from_a_file(
    digits_on_device, device, tmp_path
):
    dataset = replace(digits_on_device, train=digits_on_device.train.head(48))
    config = TrainConfig.of(target="vgg")
    models = ModelBundle.fresh(config, dataset.info).to(device)
    with pytest.raises(InputError, match="vgg has batch norm, .* load_generator"):
        Sampler(config, dataset.info, models, 1).sample(2)
    sampler = Sampler(config, dataset.info, models, 1, dataset)
    population, z, betas = sampler.draw(2)
    images = dataset.test.first(6)[0]
    with torch.no_grad():
        together = population(images.expand(2, *images.shape))
        uncalibrated = Population(models.target, population.theta)(images.expand(2, *images.shape))
        assert not together.allclose(uncalibrated, atol=0.1)
        for index, network in enumerate(population):
            alone = population[index : index + 1](images[None])[0]
            rounding = 0 if device.type == "cpu" else 1e-4 * float(alone.abs().max())
            torch.testing.assert_close(alone, together[index], rtol=0, atol=rounding)
            # Read on the CPU, wherever it was written.
            path = tmp_path / f"{index}.safetensors"
            metadata = sampler.metadata(population, z[index], {"beta": float(betas[index])})
            save_network(path, network.state_dict(), metadata)
            written = load_network(path)(images.cpu())
            torch.testing.assert_close(written, alone.cpu(), rtol=1.3e-6, atol=max(rounding, 1e-5))
            # The statistics are those of training images: what a layer says of them is normalised.
            layers = network.features[:3]
            said = layers[2](layers[:2](dataset.train.first(48)[0]))
            spread = layers[2].weight.abs()
            torch.testing.assert_close(said.mean((0, 2, 3)), layers[2].bias, atol=1e-3, rtol=0)
            torch.testing.assert_close(said.std((0, 2, 3)), spread, atol=1e-2, rtol=0)


@pytest.fixture(scope="module")
def ranged(few) -> Sampler:
    """Of a fresh generator for weights of three measures, that knows them apart."""
    config = TrainConfig.of(
        target="mlp", measure=("accuracy=0:1", "noise=0:1", "int8:bits=4=0:1"), objective="value"
    )
    models = ModelBundle.fresh(config, few.info)
    with torch.no_grad():
        models.ema.module.offsets += 0.1 * torch.arange(len(models.ema.module.offsets))[:, None]
    return Sampler(config, few.info, models, STEPS)


def test_weights_of_measures_are_asked_for_by_name(ranged, few):
    accurate, z, weights = ranged.draw(2, seed=1, prefer={"accuracy": 3})
    assert weights.tolist() == [[1, 0, 0]] * 2
    mixed, same_z, weights = ranged.draw(2, seed=1, prefer={"int8:bits=4": 3, "accuracy": 1})
    assert weights.tolist() == [[0.25, 0, 0.75]] * 2 and z.equal(same_z)
    assert (accurate.theta - mixed.theta).abs().max() > 1e-3
    row = ranged.preference_row(weights[0])
    assert row == {"preference": {"accuracy": 0.25, "noise": 0, "int8:bits=4": 0.75}}
    by_kind = ranged.draw(2, seed=1, prefer={"int8": 3, "accuracy": 1})[2]
    assert by_kind.equal(weights)
    spread = ranged.draw(50, seed=1)[2]
    assert spread.shape == (50, 3) and (spread.std(0) > 0.1).all()
    assert ranged.estimate(mixed, few)[0].shape == (2, 3)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"prefer": {"acuracy": 1}}, r"no measure acuracy \(did you mean \"accuracy\"\?\)"),
        ({"prefer": {"accuracy": -1}}, "at least 0, got -1"),
        ({"prefer": {"accuracy": float("nan")}}, "at least 0, got nan"),
        ({"prefer": {"accuracy": 0}}, "at least one weight"),
        ({"prefer": {}}, "at least one weight"),
        ({"prefer": {"int8": 1, "int8:bits=4": 1}}, "names int8:bits=4 twice"),
        ({"beta": 0.5}, "use `prefer`"),
        ({"beta": 0.5, "prefer": {"accuracy": 1}}, "only one of them can be asked"),
    ],
)
def test_what_cannot_be_preferred_is_told_in_one_line(asked, reason, ranged):
    with pytest.raises(InputError, match=reason) as told:
        ranged.draw(1, **asked)
    assert "\n" not in str(told.value)


def test_a_network_trained_for_fixed_weights_tells_these_and_no_beta(few):
    config = TrainConfig.of(target="mlp", measure=("accuracy=1", "noise=3"), objective="value")
    sampler = Sampler(config, few.info, ModelBundle.fresh(config, few.info), STEPS)
    _, _, (preference,) = sampler.draw(1)
    assert sampler.preference_row(preference) == {"preference": {"accuracy": 0.25, "noise": 0.75}}
    with pytest.raises(InputError, match="trained for weights of measures: leave out `beta`"):
        sampler.draw(1, beta=0.5)


def test_a_run_without_ranges_has_nothing_to_prefer(sampler):
    with pytest.raises(InputError, match="trained for ranges"):
        sampler.draw(1, prefer={"accuracy": 1})
