"""Several value networks as one, and the value network of a name."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from hypergen.catalog import VALUE_NETWORKS, call_by_name
from hypergen.errors import InputError
from hypergen.measures.base import Batch, Measure
from hypergen.models.value_network.base import ValueNetwork
from targets import Population, WeightLayout, require_initialized


class EnsembleValueNetwork(ValueNetwork):
    """Several of one kind that differ in their start alone; how far they differ is a warning.

    Each is fitted for itself ("deep ensembles", Lakshminarayanan et al. 2017).
    """

    def __init__(self, members: Sequence[ValueNetwork]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,...], those of the first member, for all look at the same."""
        return self._all()[0].features(population, batch)

    def forward(self, features: Tensor) -> Tensor:
        return self.member_estimates(features).mean(0)

    def member_estimates(self, features: Tensor) -> Tensor:
        """[P,...] -> [N,P,M], the estimates of each of the N members."""
        return torch.stack([member(features) for member in self._all()])

    def generator_objective(self, features: Tensor) -> Tensor:
        return torch.stack([member.generator_objective(features) for member in self._all()]).mean(0)

    def loss(self, features: Tensor, measured: Tensor) -> Tensor:
        return torch.stack([member.loss(features, measured) for member in self._all()]).sum()

    def uncertainty(self, features: Tensor) -> Tensor:
        """[P,...] -> [P,M], the standard deviation over members."""
        return self.member_estimates(features).std(0, correction=0)

    def _all(self) -> list[ValueNetwork]:
        return cast(list[ValueNetwork], list(self.members))


def build_value_network(
    kind: str,
    module: nn.Module,
    input_shape: tuple[int, int, int],
    num_classes: int,
    measures: Sequence[Measure],
    members: int = 1,
) -> ValueNetwork:
    """The value network of that name for the target `module`, several of it as an ensemble.

    A registered value network is a class or function that takes any of these by name: module,
    layout (its `WeightLayout`), input_shape (C,H,W), num_classes, measures, num_measures; it makes
    a `ValueNetwork`.

    Args:
        measures: the M figures that it estimates of each network.
        members: how many form an ensemble; with 1 there is none.

    Raises:
        InputError: an unknown name, or something that is no `ValueNetwork`.
    """
    layout = WeightLayout.of(module)

    def one() -> ValueNetwork:
        made = call_by_name(
            VALUE_NETWORKS.get(kind),
            module=module,
            layout=layout,
            input_shape=input_shape,
            num_classes=num_classes,
            measures=measures,
            num_measures=len(measures),
        )
        if not isinstance(made, ValueNetwork):
            raise InputError(f"the value network {kind} must be a ValueNetwork, got {made!r}")
        require_initialized(made, f"the value network {kind}", InputError)
        return made

    return one() if members == 1 else EnsembleValueNetwork([one() for _ in range(members)])
