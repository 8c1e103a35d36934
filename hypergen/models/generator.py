"""Generators: latent samples and preferences -> complete weights of a target."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from hypergen.catalog import GENERATORS, call_by_name
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.models.ema import WithConstants
from hypergen.models.latent import (
    Latent,
    cdf,
    encode_beta,
    encode_weights,
    hat_basis,
    simplex_basis,
)
from targets import WeightLayout, require_initialized

DENSE_LIMIT = 100_000
"""Largest target that gets a dense head; above it one chunk head is shared by all chunks."""
PRETRAINING_STEPS = 500
"""Of a published generator that is fitted to a base."""
KNOTS = 5
"""Preferences of a range at which the base weights are learned; at others they lie between two."""


class ResidualGenerator(WithConstants):
    """Gives base_weights + scale * (prior_scale * R z + gain * h(z, beta)): [P,Z], [P] -> [P,D].

    A preference is beta, the share of a radius, or the weights [M] of all measures.

    `base_weights` are trained and start as an ordinary initialisation or at a given network. With
    preferences of a whole range they move with beta: there are offsets from them at `KNOTS`
    quantiles of the preferences drawn, trained from 0, and between these on straight lines; with
    weights of M measures at the corners of their simplex and between any two. h alone would learn
    so slowly what preferences ask for that all are served alike.

    `scale` is 1/sqrt(fan-in) of each layer, so one step of the head means as much in every layer
    (hyperfan-in initialisation, Chang et al. 2020).

    The random prior R [D,Z] is never trained (after "Randomized prior functions", Osband et al.
    2018): every sample keeps a start of its own, as networks trained one by one do, and h learns
    what to add to it. Without R samples collapse to one network, since nothing in the loss asks for
    several. R is 16 times the target; all of the generator, for ResNet-20 with its chunk head, 18.5
    times, with the offsets 23.5, of which 6.5 are trained.

    Args:
        layout: of the target, D weights.
        latent: what z comes from; its size is Z.
        base_weights: [D], the weights to start from; copied.
        head: h's last part, [P,64] -> [P,D] of about unit size: `DenseHead` or `ChunkHead`.
        prior_scale: how far samples start apart, relative to 1/sqrt(fan-in); at least 0, and with 0
            only h tells them apart.
        beta_range: (lowest, highest) preference in [0,1] that it is to be trained at; offsets are
            there only if the two differ.
        num_weights: M, where a preference is the weights of so many measures; else 0.
    """

    gain = 0.5
    constants = "scale", "random_prior"
    """Buffers that its moving average shares: R is most of a generator of many weights."""

    def __init__(
        self,
        layout: WeightLayout,
        latent: Latent,
        base_weights: Tensor,
        head: nn.Module,
        prior_scale: float,
        beta_range: tuple[float, float],
        num_weights: int = 0,
    ):
        super().__init__()
        self.latent, self.prior_scale = latent, prior_scale
        self.base_weights = nn.Parameter(base_weights.clone())
        self.beta_range = beta_range
        knots = KNOTS if beta_range[0] < beta_range[1] else 0
        knots = num_weights * (num_weights + 1) // 2 or knots
        self.offsets = nn.Parameter(torch.zeros(knots, layout.size)) if knots else None
        self.scale: Tensor
        self.register_buffer("scale", layout.scales())
        self.random_prior: Tensor
        self.register_buffer(
            "random_prior", torch.randn(layout.size, latent.size).div_(latent.size**0.5)
        )
        self.trunk = nn.Sequential(
            nn.Linear(latent.size + (num_weights or 2), 64),
            nn.LeakyReLU(0.1),
            nn.Linear(64, 64),
            nn.LeakyReLU(0.1),
        )
        self.head = head

    def forward(self, z: Tensor, preference: Tensor) -> Tensor:
        """Samples [P,Z] and preferences, [P] in `beta_range` or [P,M] -> weights [P,D]."""
        single = preference.ndim == 1
        asked = encode_beta(preference) if single else encode_weights(preference)
        hidden = self.trunk(torch.cat([z, asked], dim=-1))
        near = None
        if self.offsets is not None:
            near = self._hats(preference) if single else simplex_basis(preference)
        # In place: of a large target each [P,D] takes hundreds of megabytes.
        residual = self.prior_at(z, near).add_(self.head(hidden), alpha=self.gain)
        return residual.mul_(self.scale).add_(self.base_at(near))

    def base_at(self, near: Tensor | None) -> Tensor:
        """What samples share, [D] or [P,D]; near: preferences to knots [P,K], None without."""
        if near is None or self.offsets is None:
            return self.base_weights
        return self.base_weights + near @ self.offsets

    def prior_at(self, z: Tensor, near: Tensor | None) -> Tensor:
        """How far samples [P,Z] start apart, [P,D], relative to `scale`."""
        return self.prior_scale * z @ self.random_prior.T

    def _hats(self, beta: Tensor) -> Tensor:
        return hat_basis(cdf(beta, self.beta_range), KNOTS)


class DenseHead(nn.Linear):
    """[P,64] -> [P,D], one row of weights for each weight of the target."""

    def __init__(self, size: int):
        super().__init__(64, size)
        _unit_output(self)


class ChunkHead(nn.Module):
    """[P,64] -> [P,D], chunk after chunk by one shared network that knows which chunk it makes.

    Its size is a constant plus 16 numbers for every 2,048 weights, so it grows far slower than the
    target (Ha et al. 2017, von Oswald et al. 2020).
    """

    chunk = 2048

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        chunks = math.ceil(size / self.chunk)
        self.which = nn.Parameter(torch.randn(chunks, 16))
        self.mix = nn.Linear(64 + 16, 64)
        self.out = nn.Linear(64, self.chunk)
        _unit_output(self.out)

    def forward(self, hidden: Tensor) -> Tensor:
        chunks = len(self.which)
        pairs = torch.cat(
            [
                hidden[:, None].expand(-1, chunks, -1),
                self.which.expand(len(hidden), -1, -1),
            ],
            dim=-1,
        )
        made = self.out(torch.nn.functional.leaky_relu(self.mix(pairs), 0.1))
        return made.flatten(1)[:, : self.size]


class PublishedGenerator(nn.Module):
    """fc 2-32-128-512-D, LeakyReLU .07, tanh; z uniform in [-10,10]^2 (Ballarin 2020).

    It has one preference; `beta` is taken and not used.
    """

    def __init__(self, layout: WeightLayout, latent: Latent):
        super().__init__()
        self.latent = latent
        sizes = [latent.size, 32, 128, 512, layout.size]
        layers: list[nn.Module] = []
        for before, after in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(before, after), nn.LeakyReLU(0.07)]
        self.layers = nn.Sequential(*layers[:-1], nn.Tanh())

    def forward(self, z: Tensor, beta: Tensor) -> Tensor:
        """Samples [P,2] and preferences [P] -> weights [P,D] in [-1,1]."""
        return self.layers(z)

    def pretrain(self, base_weights: Tensor, steps: int = PRETRAINING_STEPS) -> None:
        """Fits the output at the mean of z to `base_weights` [D] by least squares."""
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        mean, beta = torch.zeros(1, self.latent.size), torch.zeros(1)
        goal = base_weights.clamp(-0.999, 0.999)[None]  # as far as tanh reaches
        for _ in range(steps):
            optimizer.zero_grad()
            (self(mean, beta) - goal).square().sum().backward()
            optimizer.step()


def with_head(make_head: Callable[[int], nn.Module], about: str) -> Callable[..., nn.Module]:
    """What makes a residual generator whose head is made for so many weights; its description."""

    def make(
        layout: WeightLayout,
        base_weights: Tensor,
        latent_size: int,
        prior_scale: float,
        beta_range: tuple[float, float],
        num_weights: int,
    ) -> ResidualGenerator:
        head, latent = make_head(layout.size), Latent(latent_size)
        return ResidualGenerator(
            *(layout, latent, base_weights, head, prior_scale, beta_range, num_weights)
        )

    make.__doc__ = about
    return make


GENERATORS.register("dense")(
    with_head(DenseHead, "A residual generator with a row of its head for each weight.")
)
GENERATORS.register("chunk")(
    with_head(ChunkHead, "A residual generator with one head shared by chunks of 2,048 weights.")
)


@GENERATORS.register("published")
def published(
    layout: WeightLayout, base_weights: Tensor, from_base: bool, pretraining_steps: int
) -> PublishedGenerator:
    """The generator of Ballarin 2020, fitted to the base where there is one."""
    generator = PublishedGenerator(layout, Latent(2, uniform=True))
    if from_base:
        generator.pretrain(base_weights, pretraining_steps)
    return generator


def build_generator(
    config: TrainConfig,
    layout: WeightLayout,
    base_weights: Tensor,
    from_base: bool = False,
    pretraining_steps: int = PRETRAINING_STEPS,
) -> nn.Module:
    """The generator that `config` names, on the CPU: z [P,Z], beta [P] -> weights [P,D].

    Where measures have ranges of weights, a preference is these, [P,M]; see `draw_preferences`.

    A registered generator is a class or function that takes any of these by name: layout (a
    `WeightLayout`, D weights), base_weights [D] to start from, from_base (whether these are a
    trained network's), latent_size, prior_scale, beta_range (of a preference that is one number),
    num_weights (M, or 0 there), pretraining_steps. What it makes is a module; one without a
    `latent` gets the standard normal one of `latent_size`.

    Raises:
        InputError: an unknown name, something that is no module, or a module that gives something
            else than weights [P,D].
    """
    kind = config.generator.kind
    if kind == "auto":
        kind = "dense" if layout.size <= DENSE_LIMIT else "chunk"
    many = config.objective.has_many_preferences
    num_weights = len(config.objective.specs) if many else 0
    generator = call_by_name(
        GENERATORS.get(kind),
        layout=layout,
        base_weights=base_weights,
        from_base=from_base,
        latent_size=config.generator.latent_size,
        prior_scale=config.generator.prior_scale,
        beta_range=config.knob.given_range,
        num_weights=num_weights,
        pretraining_steps=pretraining_steps,
    )
    if not isinstance(generator, nn.Module):
        raise InputError(f"the generator {kind} must be a torch.nn.Module, got {generator!r}")
    require_initialized(generator, f"the generator {kind}", InputError)
    if not hasattr(generator, "latent"):
        generator.latent = Latent(config.generator.latent_size)  # pyright: ignore[reportArgumentType]
    _require_weights(kind, generator, layout.size, num_weights)
    return generator


@torch.no_grad()
def _require_weights(kind: str, generator: nn.Module, size: int, num_weights: int) -> None:
    """`InputError` unless the generator gives weights [P,D], D = `size`."""
    latent = cast(Latent, generator.latent)
    shape = [2, num_weights] if num_weights else [2]
    preference = torch.full(shape, 1 / num_weights if num_weights else 0.0)
    try:
        weights = generator(torch.zeros(2, latent.size), preference)
    except Exception as error:  # whatever a user's code may raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(
            f"the generator {kind} fails on z [2,{latent.size}] and preferences {shape}: {reason}"
        ) from error
    got = list(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    if got != [2, size]:
        raise InputError(f"the generator {kind} must give weights [2,{size}], got {got}")


def _unit_output(layer: nn.Linear) -> None:
    """Outputs of unit size for inputs of unit size."""
    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
    nn.init.zeros_(layer.bias)
