"""The moving average against its definition."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hypergen.models.bundle import ModelBundle
from hypergen.models.ema import ema


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.9])
def test_buffers_are_averaged_as_weights_are_and_integers_taken_over(decay):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = ema(network, decay)
    expected = {}
    for count in range(20):
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(torch.randn_like(weight))
        network(torch.randn(5, 3))
        average.update_parameters(network)
        share = 1 - min(decay, (1 + count) / (10 + count)) if count else 1.0
        for name, tensor in network.state_dict().items():
            before = expected.get(name, 0.0)
            expected[name] = (1 - share) * before + share * tensor.double()
    found = average.module.state_dict()
    assert int(found.pop("1.num_batches_tracked")) == 20
    for name, tensor in found.items():
        torch.testing.assert_close(tensor.double(), expected[name], rtol=1e-5, atol=1e-6)
        assert decay > 0 or tensor.equal(network.state_dict()[name])


def test_what_is_kept_of_it_is_what_pytorch_keeps(device):
    """How many were averaged stays where reading it is free."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(device)
    theirs, ours = AveragedModel(network, use_buffers=True), ema(network, 0.9).to(device)
    theirs.update_parameters(network)
    ours.load_state_dict(theirs.state_dict())
    assert ours.n_averaged.device.type == "cpu" and int(ours.n_averaged) == 1
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(4, 3, device=device)
    assert ours.eval()(images).equal(network.eval()(images))


@pytest.mark.parametrize("decay", [0.9, 0.2, 0.0])
def test_the_average_of_a_generator_forgets_its_start(decay, tiny, digits):
    models = ModelBundle.fresh(tiny.replace(ema_decay=decay), digits.info)
    parameters = list(models.generator.parameters())
    by_hand = None
    for count in range(4):
        with torch.no_grad():
            for p in parameters:
                p += torch.randn_like(p)
        now = [p.detach().clone() for p in parameters]
        models.ema.update_parameters(models.generator)
        if by_hand is None:  # the first update copies
            by_hand = now
        else:
            kept = min(decay, (1 + count) / (10 + count))
            by_hand = [kept * a + (1 - kept) * p for a, p in zip(by_hand, now, strict=True)]
    torch.testing.assert_close(list(models.ema.parameters()), by_hand, rtol=1e-5, atol=1e-6)


def test_the_average_of_a_generator_shares_what_nothing_trains(tiny, digits):
    models = ModelBundle.fresh(tiny, digits.info).to(torch.device("cpu"))
    prior = models.generator.random_prior.clone()
    for _ in range(2):
        models.ema.update_parameters(models.generator)
    assert models.ema.module.random_prior is models.generator.random_prior
    assert models.generator.random_prior.equal(prior)


def test_a_network_may_call_anything_of_its_own_constants():
    network = nn.BatchNorm1d(3)
    network.constants = 3  # pyright: ignore
    average = ema(network, 0.9)
    average.update_parameters(network)
    average.share_constants(network)
    assert average.module.running_mean is not network.running_mean


def test_what_is_shared_is_shared_again_on_another_device(tiny, digits):
    models = ModelBundle.fresh(tiny, digits.info)
    generator, average = models.generator.double(), models.ema.double()  # moves each for itself
    assert average.module.random_prior is not generator.random_prior
    average.share_constants(generator)
    assert average.module.random_prior is generator.random_prior
