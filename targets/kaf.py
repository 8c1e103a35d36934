"""Kernel activation functions: every channel learns its own, as a sum of Gaussians.

Sources: Scardapane, Van Vaerenbergh, Totaro, Uncini 2017, "Kafnets: kernel-based non-parametric
activation functions for neural networks"; Peconi 2020.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn

from targets.errors import TargetError

CONVENTIONS: dict[str, tuple[float, float, float]] = {
    "thesis": (6.0, 3.0, 0.05),
    "authors": (8.0, 4.0, 0.8),
}
"""Bandwidth * spacing^2 is 1 / the first number; usual boundary; size of random mixing weights.
As in Peconi 2020, and as in the PyTorch code of Scardapane et al."""
LEAST_EXPONENT = -87.0
"""Of a Gaussian, which is 0 below: at the end of float32 it takes ten times as long."""
MAX_POWERS = 20
"""Points of an even dictionary that are summed as powers of one number; more would overflow."""
RIDGE = 1e-5
"""What is added to the kernel's diagonal: with less the mixing weights grow, with more they miss
the function they start at."""

BATCH_SIZE = 256
"""Images in one forward pass when inputs outside the dictionary are counted."""


class _EvenMixture(torch.autograd.Function):
    """sum_i alpha_i exp(-(y - i)^2 / width), y = (x - center) / spacing, i = -(D // 2), ...

    exp(-(y - i)^2 / width) = exp(-y^2 / width) exp(2 y / width)^i exp(-i^2 / width), so D Gaussians
    take two exponentials. Counted from the middle, powers grow half as far, and so does the error.
    Computed anew for gradients: what is kept is the input, not D times as much.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, alpha: Tensor, center: float, spacing: float, width: float) -> Tensor:
        _, bump, up, down = _bases(x, center, spacing, width)
        return bump * _of_powers(alpha * _at_middle(alpha, width), up, down)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x, alpha, *ctx.grid = inputs
        ctx.save_for_backward(x, alpha)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha = ctx.saved_tensors
        _, spacing, width = ctx.grid
        y, bump, up, down = _bases(x, *ctx.grid)
        scale, grad = _at_middle(alpha, width), grads[0] * bump
        of_x = of_alpha = None
        if ctx.needs_input_grad[0]:
            value = _of_powers(alpha * scale, up, down)
            moment = _of_powers(alpha * scale * _positions(alpha), up, down)
            of_x = torch.addcmul(moment, y, value, value=-1) * grad * (2 / width / spacing)
        if ctx.needs_input_grad[1]:
            middle = alpha.shape[1] // 2
            others = [0, *range(2, x.ndim)]  # all axes but that of the channels
            sums = [grad.sum(others)]
            for ratio, count in ((up, alpha.shape[1] - middle - 1), (down, middle)):
                power = grad
                for _ in range(count):
                    power = power * ratio
                    sums.append(power.sum(others))
                sums.reverse()
            of_alpha = torch.stack(sums, dim=1) * scale
        return of_x, of_alpha, None, None, None


def _bases(
    x: Tensor, center: float, spacing: float, width: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """y, the Gaussian in the middle, and what times it makes its neighbours, above and below.

    y stops where that Gaussian is 0, before its neighbours' factor is infinite.
    """
    reach = math.sqrt((1 - LEAST_EXPONENT) * width)
    y = ((x - center) / spacing).clamp(-reach, reach)
    up = (y * (2 / width)).exp_()
    return y, _gaussian(y, 1 / width), up, up.reciprocal()


def _positions(alpha: Tensor) -> Tensor:
    """The index i of each mixing weight [C,D], 0 in the middle: [D]."""
    size = alpha.shape[1]
    return torch.arange(-(size // 2), size - size // 2, dtype=alpha.dtype, device=alpha.device)


def _at_middle(alpha: Tensor, width: float) -> Tensor:
    """What each Gaussian is in the middle of the dictionary, [D]."""
    return _positions(alpha).square().mul(-1 / width).exp()


def _of_powers(factors: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """sum_i factors_i up^i, down = 1/up, factors [C,D] from i = -(D // 2): by Horner's rule."""
    terms = factors.reshape(*factors.shape, *[1] * (up.ndim - 2)).unbind(1)
    middle = len(terms) // 2
    below = _horner(terms[:middle], down)
    return torch.addcmul(_horner(terms[: middle - 1 : -1], up), below, down)


def _horner(terms: Sequence[Tensor], base: Tensor) -> Tensor:
    """Terms by falling power: ... + terms[-2] base + terms[-1]."""
    total = terms[0]
    for term in terms[1:]:
        total = torch.addcmul(term, total, base)
    return total


class _FreeMixture(torch.autograd.Function):
    """sum_i alpha_i exp(-gamma (x - d_i)^2): one Gaussian at a time, computed anew for gradients.

    So what is kept is the input, not D times as much.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, alpha: Tensor, dictionary: Tensor, gamma: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for weight, point in _points(x, alpha, dictionary):
            total = torch.addcmul(total, weight, _gaussian(x - point, gamma))
        return total

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, alpha, dictionary, gamma = ctx.saved_tensors
        by_alpha, free = ctx.needs_input_grad[1], any(ctx.needs_input_grad[2:])
        others = [0, *range(2, x.ndim)]  # all axes but that of the channels
        slope, of_alpha, of_point, of_gamma = torch.zeros_like(x), [], [], []
        for weight, point in _points(x, alpha, dictionary):
            away = x - point
            bump = _gaussian(away, gamma)
            tilt = away * bump
            slope = torch.addcmul(slope, weight, tilt)
            if by_alpha:
                of_alpha.append((grad * bump).sum(others))
            if free:
                pull = grad * weight * tilt
                of_point.append(pull.sum())
                of_gamma.append((pull * away).sum())
        return (
            -2 * gamma * slope * grad if ctx.needs_input_grad[0] else None,
            torch.stack(of_alpha, dim=1) if by_alpha else None,
            2 * gamma * torch.stack(of_point) if free else None,
            -torch.stack(of_gamma).sum() if free else None,
        )


def _points(x: Tensor, alpha: Tensor, dictionary: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Of every dictionary point the mixing weights, shaped to fit `x`, and where it lies."""
    weights = alpha.reshape(*alpha.shape, *[1] * (x.ndim - 2))
    return zip(weights.unbind(1), dictionary.unbind(), strict=True)


def _gaussian(away: Tensor, gamma: Tensor | float) -> Tensor:
    return torch.threshold_(away.square().mul_(-gamma), LEAST_EXPONENT, -torch.inf).exp_()


class KAF(nn.Module):
    """KAF(x) = sum_i alpha_i exp(-gamma (x - d_i)^2), d_i evenly spaced in [-boundary, boundary].

    Each channel of images [B,C,H,W], each neuron of [B,F], has mixing weights of its own: alpha is
    [channels, size]. They are drawn at random, or start at a function by ridge regression in
    float64: alpha = (K + 1e-5 I)^-1 start(d). In the thesis' convention alpha then meets ELU,
    Swish, tanh, the identity and ReLU to 6e-4 at the points, between them all to 0.014 but ReLU,
    whose kink costs 0.05; the largest alpha is 29 for ELU, 56 for ReLU. In the authors', whose
    kernel is nearly singular, Swish and tanh are met to 1e-3, ELU and ReLU to 3e-3, by alphas of up
    to 280.

    Far outside the dictionary the function and its gradient are 0, which looks like robustness and
    is not (see `outside_dictionary`). A value costs two exponentials and `size` multiplications,
    its gradient twice that: on [128,16,32,32], one core, 0.04 and 0.11 s, 7 and 27 times what ELU
    takes. With `free` each point costs an exponential, and both again as much and more (0.15 and
    0.23 s with nothing to train). Memory is a few times that of the input.

    Args:
        channels: channels or neurons.
        start: what each channel starts as; by default random weights.
        size: D, points of the dictionary, at least 2.
        boundary: end of the dictionary; default: that of the convention.
        convention: "thesis" (gamma = 1/(6 spacing^2), boundary 3, alpha ~ N(0, 0.05^2)) or
            "authors" (1/(8 spacing^2), 4, N(0, 0.8^2)).
        free: train the dictionary and gamma too, shared by all channels; gamma = exp(log_gamma).

    Raises:
        TargetError: an unknown convention, fewer than 2 points, or a boundary not above 0.
    """

    def __init__(
        self,
        channels: int,
        start: Callable[[Tensor], Tensor] | None = None,
        size: int = 20,
        boundary: float | None = None,
        convention: str = "thesis",
        free: bool = False,
    ):
        super().__init__()
        if convention not in CONVENTIONS:
            raise TargetError(f"unknown convention {convention!r}; known: {', '.join(CONVENTIONS)}")
        width, usual, spread = CONVENTIONS[convention]
        boundary = usual if boundary is None else boundary
        if size < 2:
            raise TargetError(f"a KAF needs a dictionary of at least 2 points, got {size}")
        if not boundary > 0:
            raise TargetError(f"a KAF needs a boundary above 0, got {boundary}")
        # On the CPU even where a module is made without numbers: its spacing is one.
        points = torch.linspace(-boundary, boundary, size, dtype=torch.float64, device="cpu")
        self.width, self.spacing, self.free = width, float(points[1] - points[0]), free
        gamma = 1 / (width * self.spacing**2)
        if start is None:
            alpha = spread * torch.randn(channels, size)
        else:
            kernel = _gaussian(points[:, None] - points, gamma)
            alpha = torch.linalg.solve(
                kernel + RIDGE * torch.eye(size, device="cpu"), start(points)
            )
            alpha = alpha.to(torch.get_default_dtype()).repeat(channels, 1)
        home = torch.get_default_device()
        alpha, points = alpha.to(home), points.to(home)
        self.alpha = nn.Parameter(alpha)
        self.dictionary: Tensor
        if free:
            self.dictionary = nn.Parameter(points.to(self.alpha.dtype))
            self.log_gamma = nn.Parameter(torch.tensor(math.log(gamma)))
        else:
            self.register_buffer("dictionary", points.to(self.alpha.dtype), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, ...] -> the same shape; in 32 bits where they come in 16.

        Mixing weights are many times the sum that they make: 16 bits would leave nothing of it.
        """
        x = x.float() if x.element_size() < 4 else x
        if self.free:
            gamma = self.log_gamma.exp()
            return _FreeMixture.apply(x, self.alpha, self.dictionary, gamma)  # pyright: ignore
        size = self.alpha.shape[1]
        first, mixtures = -self.spacing * (size - 1) / 2, []
        for alpha in self.alpha.tensor_split(math.ceil(size / MAX_POWERS), dim=1):
            center = first + self.spacing * (alpha.shape[1] // 2)
            mixtures.append(_EvenMixture.apply(x, alpha, center, self.spacing, self.width))
            first += self.spacing * alpha.shape[1]
        return reduce(torch.add, mixtures)

    def extra_repr(self) -> str:
        """What the constants are: networks of others are of another architecture."""
        channels, size = self.alpha.shape
        constants = f"width={self.width:g}, spacing={self.spacing:.6g}"
        return f"{channels}, size={size}, {constants}" + (", free=True" if self.free else "")

    def outside(self, x: Tensor) -> Tensor:
        """Which inputs lie beyond the ends of the dictionary, bool of the same shape."""
        return (x < self.dictionary.amin()) | (x > self.dictionary.amax())


@torch.no_grad()
def outside_dictionary(module: nn.Module, images: Tensor) -> dict[str, float]:
    """Of each KAF in `module`, by its name: the share of inputs outside its dictionary, in [0,1].

    Over all channels, pixels and images [B,C,H,W]; empty for a module without KAFs. `TargetError`
    for no images.
    """
    if not len(images):
        raise TargetError("the share of inputs outside a dictionary needs at least one image")
    shares: dict[str, float] = {}

    def count(name: str, layer: KAF, args: tuple[Tensor]) -> None:
        weight = len(args[0]) / len(images)
        shares[name] = shares.get(name, 0.0) + weight * float(layer.outside(args[0]).float().mean())

    layers = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, KAF)]
    if not layers:
        return {}
    hooks = [layer.register_forward_pre_hook(partial(count, name)) for name, layer in layers]
    try:
        for batch in images.split(BATCH_SIZE):
            module(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return shares
