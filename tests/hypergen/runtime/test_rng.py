"""Random numbers that several trainings in one process do not take from each other."""

import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hypergen.runtime.rng import OwnDropout, global_state_of, seeded


def test_seeded_is_a_seed_and_leaves_no_trace():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(3):
        drawn = torch.rand(4)
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(3)
    assert torch.rand(4).equal(drawn)


def test_one_thread_at_a_time_is_seeded():
    inside, together = threading.Lock(), []

    def draw(seed):
        with seeded(seed):
            assert inside.acquire(blocking=False)
            together.append((seed, [float(torch.rand(())) for _ in range(200)]))
            inside.release()

    threads = [threading.Thread(target=draw, args=(seed % 2,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(together) == 6
    for seed, numbers in together:
        torch.manual_seed(seed)
        assert numbers == [float(torch.rand(())) for _ in range(200)]


def test_dropout_is_pytorchs_but_for_where_it_draws(cpu):
    network = nn.Sequential(nn.Dropout(0.25), nn.Linear(6, 5), nn.Dropout(0.5, inplace=True))
    values = torch.rand(7, 6, requires_grad=True)
    torch.manual_seed(4)
    own = OwnDropout(global_state_of(cpu))
    expected = network(values)
    (gradient,) = torch.autograd.grad(expected.sum(), values)
    before = torch.get_rng_state()
    with own:
        found = network(values)
    assert torch.get_rng_state().equal(before) and found.equal(expected)
    assert torch.autograd.grad(found.sum(), values)[0].equal(gradient)
    with own:
        assert not network(values).equal(found)  # it draws on
        assert network.eval()(values).equal(network[1](values))
        assert F.dropout(values, 0.0).equal(values)


class Noisy(nn.Module):
    """Adds noise of every make to what it is given."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        noise = torch.rand(values.shape) + torch.randn_like(values) + torch.randperm(6)
        noise = noise + torch.randint(0, 5, values.shape) + torch.empty(6).uniform_(-1, 1)
        noise = noise + torch.bernoulli(values.sigmoid()) + values.new_zeros(6).normal_()
        return values + noise + torch.normal(0.0, torch.ones(6))


class Attention(nn.Module):
    """Attends to itself, with dropout."""

    def __init__(self, by_hand: bool):
        super().__init__()
        self.by_hand, self.layer = by_hand, nn.MultiheadAttention(6, 2, dropout=0.3)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        if self.by_hand:
            stack = values.view(1, 1, *values.shape)
            return F.scaled_dot_product_attention(stack, stack, stack, dropout_p=0.5)
        return self.layer(values, values, values)[0]


@pytest.mark.parametrize(
    "network",
    [
        nn.Dropout1d(0.5),
        nn.Sequential(nn.Unflatten(1, (6, 1, 1)), nn.Dropout2d(0.5)),
        nn.Sequential(nn.Unflatten(1, (6, 1, 1, 1)), nn.Dropout3d(0.5)),
        nn.AlphaDropout(0.3),
        nn.FeatureAlphaDropout(0.3),
        nn.RReLU(),
        Attention(by_hand=False),
        Attention(by_hand=True),
        Noisy(),
    ],
    ids=lambda network: type(network).__name__,
)
def test_all_that_draws_from_the_global_state_draws_from_the_own_one(network, cpu):
    values = torch.randn(7, 6, requires_grad=True)
    torch.manual_seed(4)
    own = OwnDropout(global_state_of(cpu))
    expected = network(values)
    (gradient,) = torch.autograd.grad(expected.sum(), values)
    before = torch.get_rng_state()
    with own:
        found = network(values)
        again = network(values)
    assert torch.get_rng_state().equal(before)
    assert found.equal(expected) and not again.equal(found)
    assert torch.autograd.grad(found.sum(), values)[0].equal(gradient)


def test_a_generator_that_was_named_is_used(cpu):
    own = OwnDropout(torch.Generator().manual_seed(1))
    state = own.rng.get_state()
    named = torch.Generator().manual_seed(2)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(2))
    with own:
        assert torch.rand(3, generator=named).equal(expected)
    assert own.rng.get_state().equal(state)
