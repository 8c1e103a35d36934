"""k winners take all: of a layer's values only the largest stay.

Sources: Xiao, Zhong, Zheng 2020, "Enhancing adversarial defense by k-winners-take-all".
"""

import torch
from torch import Tensor, nn

from targets.errors import TargetError


class KWTA(nn.Module):
    """Of an image's N values the k = max(1, floor(share * N)) largest stay, others become 0.

    Winners are chosen among all channels and pixels together. The function jumps where one value
    overtakes another, so its gradient, which is that of the winners, says little of where the
    output goes.

    Args:
        share: in (0, 1].

    Raises:
        TargetError: another share.
    """

    def __init__(self, share: float):
        super().__init__()
        self.share = _share(share)

    def forward(self, values: Tensor) -> Tensor:
        """[B, ...] -> [B, ...]."""
        flat = values.flatten(1)
        count = max(1, int(self.share * flat.shape[1] + 1e-9))  # or 0.29 * 100 would be 28
        # By index and not by value: a blank background gives hundreds of values alike.
        winners, indices = flat.topk(count, sorted=False)
        return torch.zeros_like(flat).scatter(1, indices, winners).reshape(values.shape)

    def extra_repr(self) -> str:
        """Told apart by their share."""
        return f"share={self.share}"


def set_share(module: nn.Module, share: float) -> None:
    """Sets the share, in (0, 1], of every k-WTA layer of `module`.

    For a training that lowers it on the way: a small share is reached best from a larger one (Xiao
    et al. go from 0.2 down by 0.005 every 2 epochs).

    Raises:
        TargetError: another share.
    """
    for layer in module.modules():
        if isinstance(layer, KWTA):
            layer.share = _share(share)


def _share(value: float) -> float:
    if not 0 < value <= 1:
        raise TargetError(f"k-WTA keeps a share in (0, 1], got {value}")
    return value
