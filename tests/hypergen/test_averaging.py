"""The moving average against its definition."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from hypergen.averaging import averaged


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.9])
def test_buffers_are_averaged_as_weights_are_and_integers_taken_over(decay):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = averaged(network, decay)
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
    """So that older checkpoints fit; how many were averaged stays where reading it is free."""
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).to(device)
    theirs, ours = AveragedModel(network, use_buffers=True), averaged(network, 0.9).to(device)
    theirs.update_parameters(network)
    ours.load_state_dict(theirs.state_dict())
    assert ours.n_averaged.device.type == "cpu" and int(ours.n_averaged) == 1
    theirs.load_state_dict(ours.state_dict())
    images = torch.rand(4, 3, device=device)
    assert ours.eval()(images).equal(network.eval()(images))
