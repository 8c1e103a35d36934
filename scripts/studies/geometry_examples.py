"""Piecewise-linear networks small enough to be seen whole.

Six ReLUs that approximate a cubic, and their knots; how many knots random networks of one number
have, against the bound; and a network as a difference of two convex functions (Bibi and Alfadly,
"Understanding DNNs"). Nothing is trained and no data set is read.

    python -m scripts.studies.geometry_examples
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from hypergen.analysis.convex_difference import convex_parts
from hypergen.analysis.one_dimensional import knot_bound, knots
from hypergen.report.palette import BLUE, GREEN, PURPLE, VERMILLION
from hypergen.report.plots import titled
from scripts.common import RESULTS, publish, run, settings_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTHS = (6,), (20,), (3, 3), (10, 10), (4, 4, 4), (6, 6, 6, 6)
"""Hidden layers of the networks whose knots are counted."""
LOW, HIGH = -2.0, 2.0
"""Ends of the interval that is drawn."""


@dataclass(frozen=True)
class StudyConfig:
    """What is counted, and where it is written."""

    networks: int = 100
    """random networks of each size"""
    reach: float = 1e4
    """knots are looked for from minus to plus this"""
    seed: int = 0
    """of their weights"""
    out: Path = RESULTS / "geometry_examples.json"
    """JSON file for the figures; the picture is beside it"""


def cubic(x: Tensor) -> Tensor:
    """x^3 + x^2 - x - 1."""
    return x**3 + x**2 - x - 1


def six_relus() -> nn.Sequential:
    """A network of six ReLUs close to the cubic, found by hand.

    Source: Fortuner 2017, "Can neural networks solve any problem?".
    """
    weights = torch.tensor([-5, -1.2, 1.2, 1.2, 2, 5], dtype=torch.float64)
    biases = torch.tensor([-7.7, -1.3, 1, -0.2, -1.1, -5], dtype=torch.float64)
    signs = torch.tensor([[-1, -1, -1, 1, 1, 1]])
    return of_one_number([weights[:, None], signs], [biases])


def of_one_number(weights: list[Tensor], biases: list[Tensor]) -> nn.Sequential:
    """Linear layers of these weights [out,in], with ReLUs between; the last needs no bias."""
    layers: list[nn.Module] = [nn.Flatten()]
    for index, weight in enumerate(weights):
        out, size = weight.shape
        layer = nn.Linear(size, out, bias=index < len(biases), dtype=torch.float64)
        with torch.no_grad():
            layer.weight.copy_(weight)
            if index < len(biases):
                layer.bias.copy_(biases[index])
        layers += layer, nn.ReLU()
    return nn.Sequential(*layers[:-1])


def random_network(widths: tuple[int, ...], rng: torch.Generator) -> nn.Sequential:
    """Hidden layers of these widths, weights and biases from the normal distribution."""
    sizes = list(pairwise((1, *widths, 1)))
    weights = [torch.randn(after, before, generator=rng) for before, after in sizes]
    return of_one_number(weights, [torch.randn(after, generator=rng) for _, after in sizes])


def counted(config: StudyConfig) -> dict[str, dict[str, Any]]:
    """By the widths of hidden layers: how many knots networks have, and how many they could."""
    rng, found = torch.Generator().manual_seed(config.seed), {}
    for widths in WIDTHS:
        networks = [random_network(widths, rng) for _ in range(config.networks)]
        counts = [len(knots(each, -config.reach, config.reach)) for each in networks]
        name = "-".join(map(str, widths))
        found[name] = {"knots": counts, "bound": knot_bound(widths), "units": sum(widths)}
    return found


def picture(network: nn.Sequential, places: list[float], found: dict[str, Any]) -> "Figure":
    """The cubic and its knots, the counts against the bound, and the two convex functions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    x = torch.linspace(LOW, HIGH, 401, dtype=torch.float64)
    bends = torch.tensor(places, dtype=torch.float64)
    plus, minus = (part[:, 0] for part in convex_parts(network, x.view(-1, 1, 1, 1)))
    with torch.no_grad():
        heights = network(bends.view(-1, 1, 1, 1))[:, 0]
    left.plot(x, cubic(x), color="grey", linestyle="--")
    left.plot(x, plus - minus, color=BLUE)
    left.plot(bends, heights, "o", color=VERMILLION)
    left.text(-1.9, 4, f"dashed: x³ + x² - x - 1\nline: six ReLUs\ndots: its {len(places)} knots")
    left.set_title("A cubic by six ReLUs")
    left.set_xlabel("x (no unit)")
    left.set_ylabel("value (no unit)")
    for place, row in enumerate(found.values()):
        counts = torch.tensor(row["knots"])
        middle.plot([place] * len(counts), counts, ".", color=BLUE, alpha=0.3)
        middle.hlines(row["bound"], place - 0.3, place + 0.3, color=VERMILLION)
        middle.hlines(row["units"], place - 0.3, place + 0.3, color="grey")
    middle.set_yscale("log")
    middle.set_xticks(range(len(found)), [*found], fontsize="small")
    middle.set_xlabel("widths of hidden layers (units)")
    middle.set_ylabel("knots (number)")
    middle.set_title("Knots of random networks (dots),\nthe bound (red), ReLUs (grey)")
    right.plot(x, plus, color=GREEN)
    right.plot(x, minus, color=PURPLE)
    right.plot(x, plus - minus, color=BLUE)
    for line, name in ((plus, "p"), (minus, "q"), (plus - minus, "p - q,\nthe network")):
        right.annotate(name, (HIGH, float(line[-1])), (4, 0), textcoords="offset points")
    right.set_xlim(LOW, HIGH + 1.2)
    right.set_title("The six ReLUs as a difference\nof two convex functions")
    right.set_xlabel("x (no unit)")
    right.set_ylabel("value (no unit)")
    titled(figure, "ReLU networks of one input: where they bend, and how often they can")
    return figure


def main(config: StudyConfig) -> None:
    """Counts, prints the table, writes and draws it."""
    network = six_relus()
    places = knots(network, LOW, HIGH).tolist()
    inside = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)
    with torch.no_grad():
        error = (network(inside.view(-1, 1, 1, 1))[:, 0] - cubic(inside)).abs().max()
    found = counted(config)
    print(f"six ReLUs: knots at {', '.join(f'{place:.4f}' for place in places)}")
    print(f"\n{'widths':<12}{'ReLUs':>8}{'knots, mean':>14}{'most':>8}{'bound':>8}")
    for name, row in found.items():
        counts = row["knots"]
        mean = sum(counts) / len(counts)
        print(f"{name:<12}{row['units']:>8}{mean:>14.1f}{max(counts):>8}{row['bound']:>8}")
    example = {"knots": places, "error": float(error)}
    publish(
        config.out,
        settings_of(config),
        {"cubic": example, "networks": found},
        picture=picture(network, places, found),
    )


if __name__ == "__main__":
    run(main, StudyConfig, __doc__)
