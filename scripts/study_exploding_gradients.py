"""Deep networks of kernel activation functions: do their gradients explode, and what cures it?

ResNet-20 and ResNet-56 with ReLU and KAF, trained ordinarily by SGD; at every step the norm of each
layer's gradient and weights (TensorBoard; a figure of the gradients at the first step and at the
worst, and of the weights at the last). Peconi 2020 saw norms near 2e5 around the 15th layer of a
KAF ResNet-56, and NaN. Ways of training it that may do better stand beside it: starting every KAF
at a known function, and clipping the gradient.

    HYPERGEN_DATA=... python -m scripts.study_exploding_gradients
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from hypergen import data
from hypergen.baseline import fresh_target
from scripts.cells import RESULTS, claim, device, publish, rows, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Way:
    """A network and how it is trained."""

    target: str
    activation: str
    clip: float | None = None

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.target} {self.activation}" + (", clipped" if self.clip else "")


WAYS = {
    way.name: way
    for way in (
        Way("resnet20", "relu"),
        Way("resnet20", "kaf"),
        Way("resnet56", "relu"),
        Way("resnet56", "kaf"),
        Way("resnet56", "kaf", clip=1.0),
        Way("resnet56", "kaf-elu"),
        Way("resnet56", "kaf-elu", clip=1.0),
        Way("resnet56", "kaf-swish", clip=1.0),
        Way("resnet56", "kaf-tanh"),
        Way("resnet56", "kaf-tanh", clip=1.0),
    )
}


@dataclass(frozen=True)
class StudyConfig:
    """How long, and on what."""

    quick: bool = False
    """a few steps of small batches"""
    dataset: str = "cifar10"
    """data set"""
    steps: int = 2000
    """of SGD"""
    batch_size: int = 128
    """training images a step"""
    learning_rate: float = 0.1
    """of SGD, momentum .9, after a warm-up over the first twentieth of the steps"""
    seed: int = 0
    """of the initial weights and the order of images"""
    only: tuple[str, ...] = ()
    """ways to run now, beside those run before; default: all"""
    work: Path = Path("runs/study-exploding-gradients")
    """folder of the figures and of TensorBoard's events"""
    out: Path = RESULTS / "exploding-gradients.json"
    """the figures as JSON; the picture is written beside it"""


QUICK = StudyConfig(quick=True, steps=12, batch_size=16)


def layers(network: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of convolutions and dense layers, input to output."""
    return {
        name: layer.weight
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    }


def norms_of(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    """Of each its L2 norm, read at once: each reading keeps a GPU waiting."""
    found = torch.stack([tensor.detach().norm() for tensor in tensors.values()])
    return dict(zip(tensors, found.tolist(), strict=True))


def watched(config: StudyConfig, way: Way, dataset: data.Dataset) -> dict[str, Any]:
    """One training: its losses, and the norms of gradients and weights by layer."""
    from torch.utils.tensorboard import SummaryWriter

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = fresh_target(way.target, way.activation, config.dataset).to(device()).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=0.9)
        rng = torch.Generator().manual_seed(config.seed)
        writer = SummaryWriter(config.work / way.name.replace(" ", "-"))
        losses: list[float] = []
        norms: list[dict[str, float]] = []
        sizes: dict[str, float] = {}
        weights = layers(network)
        while len(losses) < config.steps:
            images, labels = dataset.train.draw(config.batch_size, rng)
            for group in optimizer.param_groups:
                warm = min(1.0, (len(losses) + 1) / max(1, config.steps // 20))
                group["lr"] = config.learning_rate * warm
            loss = F.cross_entropy(network(dataset.augmented(images, rng)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            losses.append(float(loss.detach()))
            norms.append(norms_of({n: w.grad for n, w in weights.items() if w.grad is not None}))
            found = norms_of(weights)
            for kind, row in (("gradient", norms[-1]), ("weight", found)):
                for name, norm in row.items():
                    writer.add_scalar(f"{kind}/{name}", norm, len(losses))
            if all(map(math.isfinite, found.values())):
                sizes = found
            if way.clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), way.clip)
            optimizer.step()
            if not math.isfinite(losses[-1]):
                break
        writer.close()
    last = losses[-max(1, config.steps // 20) :]
    finite = [row for row in norms if all(map(math.isfinite, row.values()))]
    return {
        "steps": len(losses),
        "diverged": not math.isfinite(losses[-1]),
        # KAFs beyond their dictionary are 0 and flat: nothing reaches the layers before them.
        "dead": next(iter(norms[-1].values())) == 0,
        "loss": sum(last) / len(last) if math.isfinite(losses[-1]) else None,
        "first": norms[0],
        "worst": max(finite, key=lambda row: max(row.values())) if finite else norms[0],
        "weights": sizes,
    }


def picture(rows: dict[str, dict[str, Any]]) -> "Figure":
    """Norms over depth: gradients at the first step and at the worst, weights in the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 4), layout="constrained")
    titles = {"first": "gradient, first step", "worst": "gradient, worst step"}
    titles |= {"weights": "weights in the end"}
    for axes, (when, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for name, row in rows.items():
            norms = list(row[when].values())
            axes.plot([i / (len(norms) - 1) for i in range(len(norms))], norms, label=name)
        axes.set_yscale("log")
        axes.set_xlabel("depth, input to output")
        axes.set_ylabel("norm")
        axes.set_title(title)
    axes.legend(fontsize="x-small")
    return figure


def main(config: StudyConfig) -> None:
    """Trains every way, prints the table, writes and draws it."""
    settings = claim(config.work, config)
    dataset = data.load(config.dataset, device=device())
    found, failed = rows(config, WAYS, lambda name: watched(config, WAYS[name], dataset))
    print(f"\n{'':<28}{'steps':>8}{'loss':>10}{'first, at most':>18}{'worst, at most':>18}")
    for name, row in found.items():
        first, worst = (max(row[when].values()) for when in ("first", "worst"))
        end = "diverged" if row["diverged"] else "dead" if row["dead"] else f"{row['loss']:.3f}"
        print(f"{name:<28}{row['steps']:>8}{end:>10}{first:>18.3g}{worst:>18.3g}")
    publish(config.out, settings, {"ways": found}, failed, picture(found))


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
