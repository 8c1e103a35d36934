"""A generator of networks whose layers keep to a bound."""

import torch
from torch import Tensor, nn

from targets.spectral_bound import SpectralBound


class BoundedGenerator(nn.Module):
    """What `generator` makes, divided layer by layer so that spectral norms keep to a bound.

    Gradients flow through the division, and `latent` is that of the generator.
    """

    def __init__(self, generator: nn.Module, bound: SpectralBound):
        super().__init__()
        self.generator, self.bound = generator, bound
        self.latent = generator.latent

    def forward(self, z: Tensor, preference: Tensor) -> Tensor:
        """Samples [P,Z] and preferences -> weights [P,D]."""
        theta = self.generator(z, preference)
        # What has diverged has no norms; whoever trains says so.
        return self.bound.of_vectors(theta) if torch.isfinite(theta).all() else theta
