import pytest
import torch

from hypergen.report import NOISY_COUNT, agreement, trivial_competitors
from targets import Population

ROWS = [{"accuracy": a, "robustness": r} for a, r in ((0.6, 0.5), (0.8, 0.5), (1.0, 0.5))]


def test_agreement_is_mean_error_r2_and_tau():
    estimates = torch.tensor([[0.7, 0.4], [0.6, 0.5], [1.0, 0.7]])
    found = agreement(estimates, ROWS)
    # Squared errors .01 + .04 + 0 of .08 around the mean; two of three pairs in order.
    assert found["accuracy"] == pytest.approx(
        {"mean_error": 0.1, "r2": 1 - 0.05 / 0.08, "kendall_tau": 1 / 3}
    )
    assert found["robustness"] == {
        "mean_error": pytest.approx(0.1),
        "r2": None,
        "kendall_tau": None,
    }


def test_estimates_that_are_right_agree_perfectly():
    estimates = torch.tensor([[row["accuracy"], row["robustness"]] for row in ROWS])
    assert agreement(estimates, ROWS)["accuracy"] == pytest.approx(
        {"mean_error": 0, "r2": 1, "kendall_tau": 1}
    )


def test_one_network_has_no_order():
    assert agreement(torch.tensor([[0.5, 0.5]]), ROWS[:1])["accuracy"] == {
        "mean_error": pytest.approx(0.1),
        "r2": None,
        "kendall_tau": None,
    }


def test_noise_is_as_large_in_each_tensor_as_samples_differ(networks, digits):
    fbf = Population.of(networks)
    layout = fbf.layout
    sizes = torch.linspace(0.5, 2, len(layout.slots))
    samples = fbf.choose(torch.zeros(40, dtype=torch.long))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(samples.theta.shape, generator=generator)
    for slot, size in zip(layout.slots, sizes, strict=True):
        noise[:, slot.start : slot.stop] *= size
    samples = samples.with_theta(samples.theta + noise)
    found = trivial_competitors(fbf, samples, digits.train.first(10)[0], seed=0)
    added = found["fbf + noise"].theta - fbf.theta[:1]
    assert len(added) == NOISY_COUNT and not added[0].equal(added[1])
    for slot, size in zip(layout.slots, sizes, strict=True):
        own = added[:, slot.start : slot.stop]
        if own.numel() > 1000:
            assert float(own.std()) == pytest.approx(float(size), rel=0.05)
    torch.testing.assert_close(found["fbf average"].theta[0], sum(fbf.theta) / 3)
