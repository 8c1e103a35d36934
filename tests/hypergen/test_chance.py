"""Random numbers that several trainings in one process do not take from each other."""

import threading

import torch
from torch import nn
from torch.nn import functional as F

from hypergen.chance import OwnDropout, global_state_of, seeded


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
