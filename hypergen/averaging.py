"""The moving average of a network in training, which is often better than the network itself."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def averaged(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of `network` that `update_parameters(network)` brings nearer, by 1 - decay.

    The exponential average of parameters and buffers, integers taken over as they are; it forgets
    the untrained start of a short run faster. With a decay of 0 it is the network as it was last.
    """

    def update(averages: Sequence[Tensor], currents: Sequence[Tensor], count: Tensor | int) -> None:
        share = 1 - min(decay, float((1 + count) / (10 + count)))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, share)
            else:
                average.copy_(current)

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)
