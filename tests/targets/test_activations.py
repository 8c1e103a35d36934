"""Kernel activation functions and k-WTA against their definitions."""

import numpy
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from targets import (
    ACTIVATIONS,
    Population,
    TargetError,
    WeightLayout,
    make_activation,
    outside_dictionary,
    set_share,
)
from targets.kaf import KAF
from targets.kwta import KWTA


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


class TestKAF:
    @pytest.mark.parametrize(
        ("convention", "end", "width", "spread"), [("thesis", 3, 6, 0.05), ("authors", 4, 8, 0.8)]
    )
    def test_definition(self, convention, end, width, spread):
        kaf = KAF(2000, convention=convention).double()
        assert float(kaf.alpha.detach().std()) == pytest.approx(spread, rel=0.02)
        points = numpy.linspace(-end, end, 20)
        gamma = 1 / (width * (2 * end / 19) ** 2)
        x, alpha = 2 * draw(2, 2000), kaf.alpha.detach().numpy()
        expected = numpy.zeros(x.shape)
        for image, channel in numpy.ndindex(2, 200):
            bumps = numpy.exp(-gamma * (float(x[image, channel]) - points) ** 2)
            expected[image, channel] = alpha[channel] @ bumps
        found = kaf(x).detach().numpy()[:, :200]
        numpy.testing.assert_allclose(found, expected[:, :200], atol=1e-5 * spread)

    @pytest.mark.parametrize("convention", ["thesis", "authors"])
    @pytest.mark.parametrize("size", [2, 3, 20, 21, 47])
    def test_even_dictionary(self, size, convention):
        """Summed as powers it is what it is Gaussian by Gaussian, up to where each is nothing."""
        even, free = (KAF(2, size=size, convention=convention, free=free) for free in (False, True))
        free.alpha = even.alpha
        end = 30 * even.spacing + float(even.dictionary[-1])
        x = torch.linspace(-end, end, 2002).view(-1, 2)
        gamma, spread = 1 / (even.width * even.spacing**2), float(even.alpha.detach().abs().max())
        points = torch.linspace(-1, 1, size).double() * even.spacing * (size - 1) / 2
        away = x.double()[..., None] - points
        exact = (even.alpha.double() * torch.exp(-gamma * away**2)).sum(-1)
        assert (even(x) - exact).abs().max() < 1e-5 * spread
        assert (free(x) - exact).abs().max() < 1e-5 * spread
        assert not even(torch.tensor([[-torch.inf, torch.inf]])).any()

    def test_one_function_a_channel_and_a_neuron(self):
        kaf, x = KAF(3).double(), draw(2, 3, 4, 5)
        assert [tuple(p.shape) for p in kaf.parameters()] == [
            (3, 20)
        ] and not kaf.state_dict().keys() - {"alpha"}
        pixels = x.movedim(1, -1).reshape(-1, 3)  # every pixel of every channel as a dense layer's
        expected = kaf(pixels).view(2, 4, 5, 3).movedim(-1, 1)
        torch.testing.assert_close(kaf(x), expected)
        alone = torch.cat([x[:, :1], torch.zeros_like(x[:, 1:])], dim=1)
        assert torch.equal(kaf(alone)[:, 0], kaf(x)[:, 0])

    @pytest.mark.parametrize("options", [{"free": True}, {}, {"size": 23}], ids=str)
    @pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 1)], ids=["dense", "conv"])
    def test_gradients(self, shape, options):
        kaf = KAF(3, **{"size": 4} | options).double()
        given = dict(kaf.named_parameters())

        def call(x, *tensors):
            return torch.func.functional_call(kaf, dict(zip(given, tensors, strict=True)), (x,))

        x = draw(*shape).requires_grad_()
        assert gradcheck(call, (x, *given.values()))
        assert gradgradcheck(call, (x, *given.values()))

    def test_free(self):
        free, fixed = KAF(3, F.elu, free=True).double(), KAF(3, F.elu).double()
        x = draw(50, 3)
        # As near as float32 has the dictionary that it is free to move.
        torch.testing.assert_close(free(x), fixed(x), atol=1e-5, rtol=1.3e-6)
        before = {name: parameter.clone() for name, parameter in free.named_parameters()}
        assert before.keys() == {"alpha", "dictionary", "log_gamma"}
        optimizer = torch.optim.SGD(free.parameters(), lr=0.01)
        free(x).square().mean().backward()
        optimizer.step()
        for name, parameter in free.named_parameters():
            assert not torch.equal(parameter, before[name]), name
        free.log_gamma.data -= 50
        assert free(x).isfinite().all() and free.log_gamma.exp() > 0

    @pytest.mark.parametrize("start", [F.elu, F.silu, torch.tanh, F.relu, lambda x: x])
    def test_ridge_start(self, start):
        kaf = KAF(4, start)
        points = kaf.dictionary[:, None].expand(-1, 4)
        torch.testing.assert_close(kaf(points), start(points), atol=1e-3, rtol=0)
        between = torch.linspace(-3, 3, 400)[:, None].expand(-1, 4)
        worst = (kaf(between) - start(between)).abs().max().item()
        assert worst < (0.055 if start is F.relu else 0.015)
        assert kaf.alpha.abs().max() < 60

    def test_half_precision_elsewhere_stays_elsewhere(self):
        kaf, x = KAF(4, F.silu), draw(200, 4).bfloat16().requires_grad_()
        found = kaf(x)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, kaf(x.float()))
        (slope,) = torch.autograd.grad(found.sum(), x)
        (exact,) = torch.autograd.grad(kaf(y := x.detach().float().requires_grad_()).sum(), y)
        torch.testing.assert_close(slope.float(), exact, atol=0.01, rtol=0.01)

    def test_size_by_name(self):
        assert make_activation("kaf-elu-40", 3).alpha.shape == (3, 40)
        torch.testing.assert_close(
            make_activation("kaf-elu-40", 3).alpha, KAF(3, F.elu, size=40).alpha
        )
        assert make_activation("kaf-9", 3).alpha.shape == (3, 9)

    @pytest.mark.parametrize("other", ["kaf-authors", "kaf-9", "kaf-free"])
    def test_other_constants_are_another_architecture(self, other):
        one, two = (
            nn.Sequential(nn.Flatten(), make_activation(name, 4)) for name in ("kaf", other)
        )
        with pytest.raises(TargetError, match="one architecture"):
            Population.of([one, two])

    def test_nothing_far_outside(self):
        """As published: ELU's start is 1.0 at 4, .009 at 5."""
        x = torch.tensor([[4.0], [5.0], [30.0], [-1e30]], requires_grad=True)
        values = KAF(1, F.elu)(x)
        assert values[0].item() == pytest.approx(1.0, abs=0.1)
        assert values[1].item() == pytest.approx(0.009, abs=0.003)
        (slope,) = torch.autograd.grad(values.sum(), x)
        assert values[2:].tolist() == slope[2:].tolist() == [[0.0], [0.0]]

    def test_memory(self):
        """What waits for the gradient is the input, not 20 times as much."""
        x, kept = torch.randn(8, 3, 6, 6, requires_grad=True), []
        with saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            KAF(3)(x)
        assert sum(kept) <= x.numel() + 3 * 20 + 20 + 1

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"size": 1}, "at least 2 points, got 1"),
            ({"boundary": 0.0}, "a boundary above 0, got 0.0"),
            ({"convention": "theses"}, "unknown convention 'theses'; known: thesis, authors"),
        ],
        ids=str,
    )
    def test_bad_input(self, options, message):
        with pytest.raises(TargetError, match=message):
            KAF(3, **options)

    def test_generated_a_little_around_its_start(self):
        """Mixing weights of up to 56 move by a tenth, not by a share of a fan-in they lack."""
        layout = WeightLayout.of(nn.Sequential(nn.Linear(4, 3), KAF(3, free=True)))
        scales = {slot.name: slot.scale for slot in layout.slots}
        assert scales == {"0.weight": 0.5, "0.bias": 0.5} | dict.fromkeys(
            ("1.alpha", "1.dictionary", "1.log_gamma"), 0.1
        )

    def test_share_outside_the_dictionary(self):
        net = nn.Sequential(nn.Flatten(), KAF(4), nn.Linear(4, 2), KAF(2, boundary=100.0))
        images = torch.tensor([[-3.1, 0.0, 2.9, 9.0], [0.0, 1.0, 3.1, 2.0]]).view(2, 1, 2, 2)
        assert outside_dictionary(net, images) == {"1": 3 / 8, "3": 0.0}
        assert not any(layer._forward_pre_hooks for layer in net.modules())
        assert outside_dictionary(nn.Flatten(), images) == {}
        with pytest.raises(TargetError, match="at least one image"):
            outside_dictionary(net, images[:0])


def by_sorting(values: torch.Tensor, share: float) -> torch.Tensor:
    """k-WTA by numpy, image after image."""
    flat = values.flatten(1).numpy()
    count = max(1, int(numpy.floor(share * flat.shape[1] + 1e-9)))
    out = numpy.zeros_like(flat)
    for row, kept in zip(flat, out, strict=True):
        winners = numpy.argsort(row)[-count:]
        kept[winners] = row[winners]
    return torch.from_numpy(out).view(values.shape)


class TestKWTA:
    @pytest.mark.parametrize("share", [0.01, 0.1, 0.29, 0.5, 1.0])
    @pytest.mark.parametrize("shape", [(3, 100), (2, 4, 5, 5), (2, 7)])
    def test_is_that_of_sorting(self, shape, share):
        values = torch.randn(shape)
        found = make_activation(f"kwta-{share}", shape[1])(values)
        assert torch.equal(found, by_sorting(values, share))
        kept = max(1, round(share * found[0].numel() - 0.49))
        assert ((found != 0).flatten(1).sum(1) == kept).all()

    def test_values_alike(self):
        """As of a blank background: exactly k stay, the same k in any company."""
        values = torch.randint(1, 4, (20, 3, 4, 4)).float()
        values[0] = 1.0
        found = KWTA(0.25)(values)
        assert ((found != 0).flatten(1).sum(1) == 12).all()
        assert torch.equal(found.flatten(1).sum(1), by_sorting(values, 0.25).flatten(1).sum(1))
        assert torch.equal(torch.cat([KWTA(0.25)(image[None]) for image in values]), found)

    def test_winners_alone_get_the_gradient(self):
        values = torch.randn(2, 3, 2, 2, requires_grad=True)
        found = KWTA(0.25)(values)
        (grad,) = torch.autograd.grad(found.square().sum(), values)
        assert torch.equal(grad, 2 * found.detach())

    def test_in_a_population(self):
        nets = [nn.Sequential(nn.Conv2d(1, 3, 3), KWTA(0.3), nn.Flatten()) for _ in range(3)]
        population = Population.of(nets)
        images = torch.rand(3, 4, 1, 6, 6)
        images[:, 0] = 0.5  # nothing but values alike
        looped = population._loop(population._each(), images)
        for found in (looped, population._vmap(population._tensors(), images)):
            assert ((found != 0).sum(-1) == 14).all()
            for index, net in enumerate(nets):
                expected = by_sorting(net[0](images[index, 1:]).detach(), 0.3).flatten(1)
                torch.testing.assert_close(found[index, 1:], expected)

    def test_set_share(self):
        net = nn.Sequential(KWTA(0.2), nn.Sequential(nn.ReLU(), KWTA(0.2)))
        set_share(net, 0.1)
        assert [layer.share for layer in net.modules() if isinstance(layer, KWTA)] == [0.1, 0.1]
        with pytest.raises(TargetError, match=r"a share in \(0, 1\], got 0"):
            set_share(net, 0)

    @pytest.mark.parametrize("share", ["0", "1.01", "-1", "nan", "inf", "", "x"])
    def test_bad_share(self, share):
        with pytest.raises(
            TargetError, match=r"expected kwta-<share>, a share in \(0, 1\]"
        ) as error:
            make_activation(f"kwta-{share}", 3)
        assert "\n" not in str(error.value)


def test_every_activation_has_a_text_of_its_own():
    texts = [make.__doc__ or "" for make in ACTIVATIONS.values()]
    assert all(2 <= len(text) <= 60 and "\n" not in text for text in texts)
    assert len(set(texts)) == len(texts)
