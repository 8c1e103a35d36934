"""The moving average against its definition."""

import pytest
import torch
from torch import nn

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
