"""Whether networks are continuous and piecewise linear."""

from torch import Tensor

from hypergen.analysis.base import NotApplicable
from targets import Population, TargetError
from targets.graph import Graph
from targets.linear_pieces import patterns
from targets.piecewise_linear import tensors_of


def graph_and_tensors(
    population: Population, images: Tensor
) -> tuple[Graph, list[dict[str, Tensor]]]:
    """The graph of networks that are piecewise linear, and each one's tensors by name.

    images: [B,C,H,W], of which the first is tried.

    Raises:
        NotApplicable: they are not, by their first operation that is smooth, jumps, or is unknown.
    """
    try:
        graph, tensors = Graph.of(population), tensors_of(population)
        patterns(graph, tensors[0], images[:1])
    except TargetError as error:
        raise NotApplicable(str(error.args[0])) from None
    return graph, tensors
