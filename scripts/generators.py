"""What makes the generators of studies known by a name."""

from collections.abc import Callable

from torch import Tensor

from hypergen.models.generator import DenseHead, ResidualGenerator
from hypergen.models.latent import Latent
from targets import WeightLayout


def with_dense_head(kind: type[ResidualGenerator]) -> Callable[..., ResidualGenerator]:
    """What makes generators of that class for small targets, as the registry wants it."""

    def make(
        layout: WeightLayout,
        base_weights: Tensor,
        latent_size: int,
        prior_scale: float,
        beta_range: tuple[float, float],
    ) -> ResidualGenerator:
        head, latent = DenseHead(layout.size), Latent(latent_size)
        return kind(layout, latent, base_weights, head, prior_scale, beta_range)

    return make
