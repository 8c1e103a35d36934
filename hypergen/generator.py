"""The generator: latent samples and preferences -> complete weights of a target."""

import math

import torch
from torch import Tensor, nn

from hypergen.config import TrainConfig
from hypergen.latent import Latent, cdf, encode_beta
from targets import WeightLayout

DENSE_LIMIT = 100_000
"""Largest target that gets a dense head; above it one chunk head is shared by all chunks."""
KNOTS = 5
"""Preferences of a range at which theta0 is learned; at others it lies between two of them."""


class ResidualGenerator(nn.Module):
    """theta = theta0 + scale * (diversity * R z + gain * h(z, beta)): [P,Z], [P] -> weights [P,D].

    With preferences of a whole range theta0 moves with beta: there are offsets from it at `KNOTS`
    quantiles of the preferences drawn, trained from 0, and between these on straight lines. h alone
    would learn so slowly what preferences ask for that all are served alike. theta0 is trained and
    starts as an ordinary initialisation or at a given network; `scale` is
    1/sqrt(fan-in) of each layer, so one step of the head means as much in every layer (hyperfan-in
    initialisation, Chang et al. 2020). R [D,Z] is random and never trained: every sample keeps a
    start of its own, as networks trained one by one do, and h learns what to add to it. Without R
    samples collapse to one network, since nothing in the loss asks for several. (The same idea for
    Q-values: "Randomized prior functions", Osband et al. 2018.) R is 16 times the target, all, for
    ResNet-20 with its chunk head, 18.5 times, with the offsets 23.5, of which 6.5 are trained.

    Args:
        layout: of the target, D weights.
        latent: what z comes from; its size is Z.
        theta0: [D], the weights to start from; copied.
        head: h's last part, [P,64] -> [P,D] of about unit size: `DenseHead` or `ChunkHead`.
        diversity: how far samples start apart, relative to 1/sqrt(fan-in); at least 0, and with 0
            only h tells them apart.
        beta_range: (lowest, highest) preference in [0,1] that it is to be trained at; offsets are
            there only if the two differ.
    """

    gain = 0.5

    def __init__(
        self,
        layout: WeightLayout,
        latent: Latent,
        theta0: Tensor,
        head: nn.Module,
        diversity: float,
        beta_range: tuple[float, float],
    ):
        super().__init__()
        self.latent, self.diversity = latent, diversity
        self.theta0 = nn.Parameter(theta0.clone())
        self.beta_range = beta_range
        ranged = beta_range[0] < beta_range[1]
        self.offsets = nn.Parameter(torch.zeros(KNOTS, layout.size)) if ranged else None
        self.scale: Tensor
        self.register_buffer("scale", layout.scales())
        self.fixed: Tensor
        self.register_buffer("fixed", torch.randn(layout.size, latent.size) / latent.size**0.5)
        self.trunk = nn.Sequential(
            nn.Linear(latent.size + 2, 64), nn.LeakyReLU(0.1), nn.Linear(64, 64), nn.LeakyReLU(0.1)
        )
        self.head = head

    def forward(self, z: Tensor, beta: Tensor) -> Tensor:
        hidden = self.trunk(torch.cat([z, encode_beta(beta)], dim=-1))
        apart = self.diversity * z @ self.fixed.T
        theta0 = self.theta0
        if self.offsets is not None:
            theta0 = theta0 + _hats(cdf(beta, self.beta_range), KNOTS) @ self.offsets
        return theta0 + self.scale * (apart + self.gain * self.head(hidden))


class DenseHead(nn.Linear):
    """[P,64] -> [P,D], one row of weights for each weight of the target."""

    def __init__(self, size: int):
        super().__init__(64, size)
        _unit_output(self)


class ChunkHead(nn.Module):
    """[P,64] -> [P,D], chunk after chunk by one shared network that is told which chunk it makes.

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
        return self.layers(z)

    def pretrain(self, theta0: Tensor, steps: int = 500) -> None:
        """Fits the output at the mean of z to `theta0` [D] by least squares."""
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        mean, beta = torch.zeros(1, self.latent.size), torch.zeros(1)
        goal = theta0.clamp(-0.999, 0.999)[None]  # as far as tanh reaches
        for _ in range(steps):
            optimizer.zero_grad()
            (self(mean, beta) - goal).square().sum().backward()
            optimizer.step()


Generator = ResidualGenerator | PublishedGenerator


def build_generator(
    config: TrainConfig, layout: WeightLayout, theta0: Tensor, pretrain: bool = False
) -> Generator:
    """The generator that `config` names, its start theta0 [D]; on the CPU."""
    if config.generator == "published":
        generator = PublishedGenerator(layout, Latent(2, uniform=True))
        if pretrain:
            generator.pretrain(theta0)
        return generator
    dense = config.generator == "dense" or (
        config.generator == "auto" and layout.size <= DENSE_LIMIT
    )
    head = DenseHead(layout.size) if dense else ChunkHead(layout.size)
    latent = Latent(config.latent_size)
    return ResidualGenerator(layout, latent, theta0, head, config.diversity, config.beta_range)


def _hats(places: Tensor, count: int) -> Tensor:
    """Places [P] in [0,1] -> [P,count], how near each is to `count` evenly spread points.

    Weights of linear interpolation: they add up to 1, and no more than two neighbours are not 0.
    """
    points = torch.arange(count, device=places.device)
    return (1 - (places[:, None] * (count - 1) - points).abs()).clamp_min(0)


def _unit_output(layer: nn.Linear) -> None:
    """Outputs of unit size for inputs of unit size."""
    nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
    nn.init.zeros_(layer.bias)
