"""Deep networks of kernel activation functions: do their gradients explode, and what cures it?

ResNet-20 and ResNet-56 with ReLU and KAF, trained ordinarily by SGD; at every step the norm of each
layer's gradient and weights (TensorBoard; a figure of the gradients at the first step and at the
worst, and of the weights at the last). Peconi 2020 saw norms near 2e5 around the 15th layer of a
KAF ResNet-56, and NaN. Ways of training it that may do better stand beside it: starting every KAF
at a known function, and clipping the gradient.

    HYPERGEN_DATA=... python -m scripts.studies.exploding_gradients
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F

from hypergen import data
from hypergen.models.bundle import fresh_target
from hypergen.report.palette import colour
from hypergen.report.plots import titled
from hypergen.runtime.rng import seeded
from scripts.common import RESULTS, device, ensure_same_settings, publish, rows, run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Variant:
    """A network and how it is trained."""

    target: str
    activation: str
    clip: float | None = None

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.target} {self.activation}" + (", clipped" if self.clip else "")


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("resnet20", "relu"),
        Variant("resnet20", "kaf"),
        Variant("resnet56", "relu"),
        Variant("resnet56", "kaf"),
        Variant("resnet56", "kaf", clip=1.0),
        Variant("resnet56", "kaf-elu"),
        Variant("resnet56", "kaf-elu", clip=1.0),
        Variant("resnet56", "kaf-swish", clip=1.0),
        Variant("resnet56", "kaf-tanh"),
        Variant("resnet56", "kaf-tanh", clip=1.0),
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
    """of SGD, momentum 0.9, after a warm-up over the first twentieth of the steps"""
    seed: int = 0
    """of the initial weights and the order of images"""
    only: tuple[str, ...] = ()
    """variants to run now, beside those run before; default: all"""
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


@dataclass
class History:
    """What is known of a training: its losses, and norms by layer, of gradients at every step.

    weights: norms of the weights at the last step at which all were finite.
    """

    losses: list[float]
    gradients: list[dict[str, float]]
    weights: dict[str, float]

    def figures(self, averaged: int) -> dict[str, Any]:
        """What is published of it; the loss is the mean over the last `averaged` steps."""
        last = self.losses[-averaged:]
        diverged = not math.isfinite(self.losses[-1])
        finite = [row for row in self.gradients if all(map(math.isfinite, row.values()))]
        return {
            "steps": len(self.losses),
            "diverged": diverged,
            # KAFs beyond their dictionary are 0 and flat: nothing reaches the layers before them.
            "dead": next(iter(self.gradients[-1].values())) == 0,
            "loss": None if diverged else sum(last) / len(last),
            "first": self.gradients[0],
            "worst": max(finite or self.gradients[:1], key=lambda row: max(row.values())),
            "weights": self.weights,
        }


def trained(config: StudyConfig, variant: Variant, dataset: data.Dataset) -> dict[str, Any]:
    """The figures of one training; its norms also go to TensorBoard."""
    from torch.utils.tensorboard import SummaryWriter

    warm_up, history = max(1, config.steps // 20), History([], [], {})
    with seeded(config.seed):
        network = fresh_target(variant.target, variant.activation, dataset.info)
        network.to(device()).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=config.learning_rate, momentum=0.9)
        rng = torch.Generator().manual_seed(config.seed)
        writer = SummaryWriter(config.work / variant.name.replace(" ", "-"))
        weights = layers(network)
        for step in range(1, config.steps + 1):
            images, labels = dataset.train.draw(config.batch_size, rng)
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * min(1.0, step / warm_up)
            loss = F.cross_entropy(network(dataset.augmented(images, rng)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            history.losses.append(float(loss.detach()))
            gradients = {n: w.grad for n, w in weights.items() if w.grad is not None}
            norms = {"gradient": norms_of(gradients), "weight": norms_of(weights)}
            history.gradients.append(norms["gradient"])
            if all(map(math.isfinite, norms["weight"].values())):
                history.weights = norms["weight"]
            for kind, row in norms.items():
                for name, norm in row.items():
                    writer.add_scalar(f"{kind}/{name}", norm, step)
            if variant.clip is not None:
                nn.utils.clip_grad_norm_(network.parameters(), variant.clip)
            optimizer.step()
            if not math.isfinite(history.losses[-1]):
                break
        writer.close()
    return history.figures(averaged=warm_up)


def picture(rows: dict[str, dict[str, Any]], dataset: str) -> "Figure":
    """Norms over depth: gradients at the first step and at the worst, weights in the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5), layout="constrained")
    titles = {"first": "gradient, first step", "worst": "gradient, worst step"}
    titles |= {"weights": "weights in the end"}
    for axes, (when, title) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        for name, row in rows.items():
            norms = list(row[when].values())
            depth = [100 * i / (len(norms) - 1) for i in range(len(norms))]
            axes.plot(depth, norms, label=name, color=colour(name, [*rows]))
        axes.set_yscale("log")
        axes.set_xlabel("depth (% of layers, from input to output)")
        axes.set_ylabel("L2 norm of a layer (no unit)")
        axes.set_title(title, fontsize="small")
    titled(figure, f"Gradients and weights of deep networks by layer\n{dataset}, training images")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def main(config: StudyConfig) -> None:
    """Trains every variant, prints the table, writes and draws it."""
    settings = ensure_same_settings(config.work, config)
    dataset = data.load(config.dataset, device=device())
    found, failed = rows(config, VARIANTS, lambda name: trained(config, VARIANTS[name], dataset))
    print(f"\n{'':<28}{'steps':>8}{'loss':>10}{'first, at most':>18}{'worst, at most':>18}")
    for name, row in found.items():
        first, worst = (max(row[when].values()) for when in ("first", "worst"))
        end = "diverged" if row["diverged"] else "dead" if row["dead"] else f"{row['loss']:.3f}"
        print(f"{name:<28}{row['steps']:>8}{end:>10}{first:>18.3g}{worst:>18.3g}")
    publish(config.out, settings, {"ways": found}, failed, picture(found, config.dataset))


if __name__ == "__main__":
    run(main, StudyConfig, __doc__, QUICK)
