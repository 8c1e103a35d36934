"""Networks between two others."""

from functools import partial

import pytest
import torch
from torch import nn

from hypergen.evaluation.soup import barrier, soup
from targets import Population, TargetError


def networks(*layers) -> Population:
    """Four networks of these kinds of layers, each with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Population.of([nn.Sequential(*(make() for make in layers)) for _ in range(4)])


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def test_logits_of_linear_networks_mix_as_their_weights_do(images):
    four = networks(nn.Flatten, partial(nn.Linear, 16, 3))
    mixed = soup(four[:2], four[2:], 0.3, images)
    logits = four(images.expand(4, *images.shape))
    expected = 0.7 * logits[:2] + 0.3 * logits[2:]
    torch.testing.assert_close(mixed(images.expand(2, *images.shape)), expected)


def test_ends_are_what_was_mixed_and_statistics_are_measured_anew(images):
    layers = partial(nn.Conv2d, 1, 2, 3), partial(nn.BatchNorm2d, 2), nn.Flatten
    four = networks(*layers, partial(nn.Linear, 8, 3)).recalibrate(images)
    for share, end in ((0, four[:2]), (1, four[2:])):
        mixed = soup(four[:2], four[2:], share, images)
        assert mixed.theta.equal(end.theta)
        assert all(mixed.buffers[name].equal(value) for name, value in end.buffers.items())
    halfway = soup(four[:2], four[2:], 0.5, images)
    for index, network in enumerate(halfway):
        filtered = [four[index][0](images), four[index + 2][0](images)]  # linear in the weights
        mean = (filtered[0] + filtered[1]).mean((0, 2, 3)) / 2
        torch.testing.assert_close(network[1].running_mean, mean)
        variance = ((filtered[0] + filtered[1]) / 2).transpose(0, 1).flatten(1).var(1)
        torch.testing.assert_close(network[1].running_var, variance)


def test_only_networks_that_match_are_mixed(images):
    four = networks(nn.Flatten, partial(nn.Linear, 16, 3))
    deeper = networks(nn.Flatten, partial(nn.Linear, 16, 3), nn.ReLU)  # with as many weights
    for one, other in ((four, deeper), (four, four[:1])):
        with pytest.raises(TargetError, match="one architecture and equal size"):
            soup(one, other, 0.5, images)


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (lambda share: 0.9 - 0.3 * share, 0),
        (lambda share: 0.9 - 0.3 * share - 0.4 * share * (1 - share), 0.1),
        (lambda share: 0.9 - 0.3 * share + 0.4 * share * (1 - share), 0),
    ],
    ids=["straight", "sagging", "arched"],
)
def test_a_barrier_is_what_lies_below_the_straight_line(figure, expected):
    shares = [0.0, 0.1, 0.5, 0.8, 1.0]
    assert barrier(shares, [figure(share) for share in shares]) == pytest.approx(expected)
