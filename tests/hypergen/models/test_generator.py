import math

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from torch import nn

import targets
from hypergen.config import TrainConfig
from hypergen.models.generator import (
    ChunkHead,
    DenseHead,
    PublishedGenerator,
    ResidualGenerator,
    build_generator,
)
from hypergen.models.latent import Latent, encode_beta
from targets import WeightLayout


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layout_of(target: str) -> WeightLayout:
    return WeightLayout.of(targets.build(target))


def built(kind: str, target: str = "mlp", prior_scale: float = 0.5) -> ResidualGenerator:
    torch.manual_seed(0)
    layout = layout_of(target)
    config = TrainConfig.of(generator=kind, prior_scale=prior_scale)
    generator = build_generator(config, layout, torch.randn(layout.size))
    assert isinstance(generator, ResidualGenerator)
    return generator


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kind", ["dense", "chunk"])
def test_weights_are_base_weights_and_a_scaled_residual(kind):
    generator = built(kind)
    z, beta = torch.randn(5, 16), torch.rand(5)
    theta = generator(z, beta)
    assert theta.shape == (5, layout_of("mlp").size)
    hidden = generator.trunk(torch.cat([z, encode_beta(beta)], dim=1))
    residual = generator.head(hidden)
    assert residual.shape == theta.shape
    apart = torch.einsum("pz,dz->pd", z, generator.random_prior)
    for slot in layout_of("mlp").slots:
        at = slice(slot.start, slot.stop)
        by_hand = generator.base_weights[at] + 0.5 * slot.scale * (apart[:, at] + residual[:, at])
        torch.testing.assert_close(theta[:, at], by_hand)
    with torch.no_grad():
        for weights in generator.head.parameters():
            weights.zero_()
        mean = generator(torch.zeros(5, 16), beta)
    assert mean.equal(generator.base_weights.expand(5, -1))


def test_samples_start_as_far_apart_as_asked():
    """Var theta_d = (prior_scale * scale_d)^2 * sum_z R_dz^2, about prior_scale^2 / fan-in."""
    for prior_scale in (0.0, 0.5, 2.0):
        generator = built("dense", "small-lenet5", prior_scale)
        with torch.no_grad():
            for weights in generator.head.parameters():
                weights.zero_()
            theta = generator(torch.randn(1000, 16), torch.full((1000,), 0.5))
        relative = theta / generator.scale
        assert float(relative.var(0).mean().sqrt()) == pytest.approx(prior_scale, rel=0.03)


def test_the_random_prior_is_not_trained_and_stays_with_the_generator():
    first, second = built("dense"), built("dense")
    assert "random_prior" not in dict(first.named_parameters())
    second.random_prior += 1
    second.load_state_dict(first.state_dict())
    assert second.random_prior.equal(first.random_prior)


@pytest.mark.parametrize("kind", ["dense", "chunk"])
def test_samples_spread_in_each_layer_as_its_fan_in_scale(kind):
    """Var theta_d = (gain * scale_d)^2 * w_d' Cov(h) w_d, with w_d ~ N(0, 1/n) for n inputs h."""
    torch.manual_seed(1)
    generator = built(kind, "small-lenet5", prior_scale=0.0)
    z = torch.randn(1000, 16)
    with torch.no_grad():
        theta = generator(z, torch.full((1000,), 0.5))
    relative = []
    for slot in layout_of("small-lenet5").slots:
        if slot.name.endswith("weight"):
            spread = theta[:, slot.start : slot.stop].var(0).mean().sqrt()
            relative.append(float(spread) / slot.scale)
    assert max(relative) / min(relative) < 1.25
    if kind == "dense":
        with torch.no_grad():
            hidden = generator.trunk(torch.cat([z, encode_beta(torch.full((1000,), 0.5))], dim=1))
        expected = 0.5 * math.sqrt(float(hidden.var(0).sum()) / 64)
        # Slots of hundreds of weights, so the mean over w_d is near its expectation.
        assert all(abs(r / expected - 1) < 0.15 for r in relative)


def test_head_sizes():
    assert parameters(DenseHead(1000)) == 65 * 1000
    sizes = {size: parameters(ChunkHead(size)) for size in (2048, 2049, 200_000, 2_000_000)}
    constant = (80 * 64 + 64) + (64 * 2048 + 2048)
    for size, count in sizes.items():
        assert count == constant + 16 * math.ceil(size / 2048)


def test_the_generator_grows_slower_than_its_target():
    small, large = built("auto", "small-lenet5"), built("auto", "fbf-cnn")
    assert isinstance(small.head, DenseHead) and isinstance(large.head, ChunkHead)
    growth = layout_of("fbf-cnn").size / layout_of("small-lenet5").size
    assert parameters(large) / parameters(small) < growth / 3
    assert parameters(large.head) < layout_of("fbf-cnn").size


@pytest.mark.parametrize("target", ["resnet20", "vgg"])
def test_generators_of_larger_targets_stay_within_20_times_their_size(target):
    generator = built("auto", target)
    held = sum(tensor.numel() for tensor in generator.state_dict().values())
    assert held <= 20 * layout_of(target).size


def test_every_chunk_has_weights_of_its_own():
    torch.manual_seed(0)
    chunks = ChunkHead(3 * 2048)(torch.randn(1, 64)).view(3, 2048)
    correlation = torch.corrcoef(chunks)
    assert (correlation - torch.eye(3)).abs().max() < 0.9
    assert ChunkHead(5000)(torch.randn(7, 64)).shape == (7, 5000)


def test_beta_decides_the_weights_of_our_generators_but_not_of_the_published():
    z = torch.zeros(2, 16)
    mine = built("dense")(z, torch.tensor([0.0, 1.0]))
    assert not mine[0].equal(mine[1])
    published = PublishedGenerator(layout_of("mlp"), Latent(2, uniform=True))
    theirs = published(torch.zeros(2, 2), torch.tensor([0.0, 1.0]))
    assert theirs[0].equal(theirs[1])


@pytest.mark.parametrize("limits", [(0.0, 1.0), (0.2, 0.6)])
def test_base_weights_move_with_preferences_of_a_range_alone(limits):
    layout = layout_of("mlp")
    base_weights = torch.randn(layout.size, generator=rng())
    single = build_generator(TrainConfig.of(target="mlp", beta="0.3"), layout, base_weights)
    ranged = build_generator(
        TrainConfig.of(target="mlp", beta="{:g}:{:g}".format(*limits)), layout, base_weights
    )
    assert isinstance(ranged, ResidualGenerator) and ranged.offsets is not None
    own, others = (dict(made.named_parameters()).keys() for made in (ranged, single))
    assert own - others == {"offsets"} and not others - own
    low, high = limits
    quarters = np.array([0, 0.1, 1, 1.5, 2, 3, 3.9, 4])
    shares = np.sin(np.pi / 2 * quarters / 4) ** 2  # quantiles of the arcsine law
    z, beta = torch.randn(8, 16), torch.tensor(low + (high - low) * shares).float()
    before = ranged(z, beta)
    with torch.no_grad():
        ranged.offsets.normal_()
    # scipy's own linear interpolation between the five
    line = interp1d(np.arange(5), ranged.offsets.detach().numpy(), axis=0)
    moved = torch.as_tensor(line(quarters)).float()
    torch.testing.assert_close(ranged(z, beta) - before, moved, rtol=1e-3, atol=1e-3)


def test_the_published_generator_is_as_published():
    layout = layout_of("small-lenet5")
    config = TrainConfig.of(generator="published")
    generator = build_generator(config, layout, torch.zeros(layout.size))
    linear = [m for m in generator.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [
        (2, 32),
        (32, 128),
        (128, 512),
        (512, 20_522),
    ]
    slopes = [m.negative_slope for m in generator.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.07] * 3
    z = generator.latent.draw(4, rng()) * 1e4
    theta = generator(z, torch.zeros(4))
    assert theta.shape == (4, 20_522) and theta.abs().max() <= 1


def test_pretraining_fits_base_weights_at_the_mean_of_z():
    layout = WeightLayout.of(nn.Linear(20, 10))
    torch.manual_seed(0)
    generator = PublishedGenerator(layout, Latent(2, uniform=True))
    base_weights = torch.empty(layout.size).uniform_(-0.9, 0.9)
    before = (generator(torch.zeros(1, 2), torch.zeros(1)) - base_weights).abs().max()
    generator.pretrain(base_weights)
    after = (generator(torch.zeros(1, 2), torch.zeros(1)) - base_weights).abs().max()
    assert before > 0.5 and after < 0.01


@pytest.mark.parametrize("from_base", [False, True])
def test_the_published_generator_is_fitted_to_a_base_alone(from_base):
    layout = WeightLayout.of(nn.Linear(20, 10))
    base_weights = torch.full((layout.size,), 0.5)
    torch.manual_seed(0)
    config = TrainConfig.of(generator="published")
    generator = build_generator(config, layout, base_weights, from_base, pretraining_steps=300)
    error = (generator(torch.zeros(1, 2), torch.zeros(1)) - base_weights).abs().max()
    assert (error < 0.05) == from_base
