import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from torch import nn

import targets
from hypergen.config import TrainConfig
from hypergen.generator import (
    ChunkHead,
    DenseHead,
    PublishedGenerator,
    ResidualGenerator,
    build_generator,
)
from hypergen.latent import Latent, cdf, draw_beta, encode_beta, preference_weights
from hypergen.train import Networks
from targets import WeightLayout


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layout_of(target: str) -> WeightLayout:
    return WeightLayout.of(targets.build(target))


def built(kind: str, target: str = "mlp", diversity: float = 0.5) -> ResidualGenerator:
    torch.manual_seed(0)
    layout = layout_of(target)
    config = TrainConfig(generator=kind, diversity=diversity)
    generator = build_generator(config, layout, torch.randn(layout.size))
    assert isinstance(generator, ResidualGenerator)
    return generator


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("kind", ["dense", "chunk"])
def test_weights_are_theta0_and_a_scaled_residual(kind):
    generator = built(kind)
    z, beta = torch.randn(5, 16), torch.rand(5)
    theta = generator(z, beta)
    assert theta.shape == (5, layout_of("mlp").size)
    hidden = generator.trunk(torch.cat([z, encode_beta(beta)], dim=1))
    residual = generator.head(hidden)
    assert residual.shape == theta.shape
    apart = torch.einsum("pz,dz->pd", z, generator.fixed)
    for slot in layout_of("mlp").slots:
        at = slice(slot.start, slot.stop)
        by_hand = generator.theta0[at] + 0.5 * slot.scale * (apart[:, at] + residual[:, at])
        torch.testing.assert_close(theta[:, at], by_hand)
    with torch.no_grad():
        for weights in generator.head.parameters():
            weights.zero_()
        mean = generator(torch.zeros(5, 16), beta)
    assert mean.equal(generator.theta0.expand(5, -1))


def test_samples_start_as_far_apart_as_asked():
    """Var theta_d = (diversity * scale_d)^2 * sum_z R_dz^2, about diversity^2 / fan-in."""
    for diversity in (0.0, 0.5, 2.0):
        generator = built("dense", "small-lenet5", diversity)
        with torch.no_grad():
            for weights in generator.head.parameters():
                weights.zero_()
            theta = generator(torch.randn(1000, 16), torch.full((1000,), 0.5))
        relative = theta / generator.scale
        assert float(relative.var(0).mean().sqrt()) == pytest.approx(diversity, rel=0.03)


def test_what_keeps_samples_apart_is_not_trained_and_stays_with_the_generator():
    first, second = built("dense"), built("dense")
    assert "fixed" not in dict(first.named_parameters())
    second.fixed += 1
    second.load_state_dict(first.state_dict())
    assert second.fixed.equal(first.fixed)


@pytest.mark.parametrize("kind", ["dense", "chunk"])
def test_samples_spread_in_each_layer_as_its_fan_in_scale(kind):
    """Var theta_d = (gain * scale_d)^2 * w_d' Cov(h) w_d, with w_d ~ N(0, 1/n) for n inputs h."""
    torch.manual_seed(1)
    generator = built(kind, "small-lenet5", diversity=0.0)
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
def test_theta0_moves_with_preferences_of_a_range_alone(limits):
    layout = layout_of("mlp")
    theta0 = torch.randn(layout.size, generator=rng())
    fixed = build_generator(TrainConfig(target="mlp", beta="0.3"), layout, theta0)
    ranged = build_generator(
        TrainConfig(target="mlp", beta="{:g}:{:g}".format(*limits)), layout, theta0
    )
    assert isinstance(ranged, ResidualGenerator) and ranged.offsets is not None
    assert set(dict(ranged.named_parameters())) - set(dict(fixed.named_parameters())) == {"offsets"}
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
    config = TrainConfig(generator="published")
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


def test_pretraining_fits_theta0_at_the_mean_of_z():
    layout = WeightLayout.of(nn.Linear(20, 10))
    torch.manual_seed(0)
    generator = PublishedGenerator(layout, Latent(2, uniform=True))
    theta0 = torch.empty(layout.size).uniform_(-0.9, 0.9)
    before = (generator(torch.zeros(1, 2), torch.zeros(1)) - theta0).abs().max()
    generator.pretrain(theta0)
    after = (generator(torch.zeros(1, 2), torch.zeros(1)) - theta0).abs().max()
    assert before > 0.5 and after < 0.01


@pytest.mark.parametrize("decay", [0.9, 0.2, 0.0])
def test_the_average_is_an_exponential_moving_average_that_forgets_its_start(decay, tiny):
    networks = Networks.fresh(replace(tiny, ema_decay=decay))
    parameters = list(networks.generator.parameters())
    by_hand = None
    for count in range(4):
        with torch.no_grad():
            for p in parameters:
                p += torch.randn_like(p)
        now = [p.detach().clone() for p in parameters]
        networks.averaged.update_parameters(networks.generator)
        if by_hand is None:  # the first update copies
            by_hand = now
        else:
            kept = min(decay, (1 + count) / (10 + count))
            by_hand = [kept * a + (1 - kept) * p for a, p in zip(by_hand, now, strict=True)]
    averaged = list(networks.averaged.parameters())
    torch.testing.assert_close(averaged, by_hand, rtol=1e-5, atol=1e-6)


def test_beta_is_a_quarter_of_the_unit_circle():
    beta = torch.tensor([0.0, 0.25, 0.5, 1.0])
    code = encode_beta(beta)
    half = math.sqrt(0.5)
    torch.testing.assert_close(code[[0, 2, 3]], torch.tensor([[1.0, 0], [half, half], [0, 1]]))
    torch.testing.assert_close(code.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(torch.atan2(code[:, 1], code[:, 0]) / (math.pi / 2), beta)


def test_preferences_lie_in_their_range_and_weigh_to_1():
    beta = draw_beta(1000, (0.2, 0.6), rng())
    assert 0.2 <= beta.min() < 0.22 and 0.58 < beta.max() <= 0.6
    assert draw_beta(3, (0.5, 0.5), rng()).tolist() == [0.5] * 3
    law = draw_beta(10_000, (0.2, 0.6), rng())
    for share in (0.1, 0.5, 0.75):  # arcsine
        below = float((law < 0.2 + 0.4 * share).float().mean())
        assert below == pytest.approx(2 / math.pi * math.asin(share**0.5), abs=0.02)
        (told,) = cdf(torch.tensor([0.2 + 0.4 * share]), (0.2, 0.6))
        assert below == pytest.approx(float(told), abs=0.02)
    ends = cdf(torch.tensor([0.2, 0.6]), (0.2, 0.6))
    torch.testing.assert_close(ends, torch.tensor([0.0, 1.0]), rtol=0, atol=1e-3)
    weights = preference_weights(beta)
    torch.testing.assert_close(weights.sum(1), torch.ones(1000))
    assert weights[:, 1].equal(beta)


def test_latent_samples():
    normal = Latent(4).draw(5000, rng(1))
    assert normal.mean().abs() < 0.05 and abs(normal.std() - 1) < 0.05
    uniform = Latent(2, uniform=True).draw(5000, rng(1))
    assert -10 <= uniform.min() < -9.9 and 9.9 < uniform.max() <= 10
    for latent in (Latent(4), Latent(2, uniform=True)):
        whole = latent.draw(9, rng(2))
        assert latent.draw(9, rng(2), spread=0.25).equal(whole * 0.25)
        assert not latent.draw(9, rng(3)).equal(whole)
