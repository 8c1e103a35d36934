"""Training images moved and mirrored, on the device they are on."""

import torch
from torch import Tensor
from torch.nn import functional as F


def crop_and_flip(images: Tensor, pad: int, flip: bool, rng: torch.Generator) -> Tensor:
    """Every image moved by up to `pad` pixels, black where it leaves, and mirrored half the time.

    The usual augmentation for CIFAR-10 (He et al. 2016), with a draw for each of the images
    [B,C,H,W]; mirrored only if `flip`. `rng` is on the CPU, wherever the images are.
    """
    count, channels, height, width = images.shape
    device = images.device

    def draw(high: int) -> Tensor:
        return torch.randint(high, (count,), generator=rng).to(device)

    rows = draw(2 * pad + 1)[:, None] + torch.arange(height, device=device)
    columns = draw(2 * pad + 1)[:, None] + torch.arange(width, device=device)
    if flip:
        columns = torch.where(draw(2)[:, None].bool(), columns.flip(1), columns)
    # Only the chosen numbers are read: no image is copied whole but once.
    each = torch.arange(count, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    padded = F.pad(images, (pad,) * 4)
    return padded[each, channel, rows[:, None, :, None], columns[:, None, None, :]]
