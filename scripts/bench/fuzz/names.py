"""What the lines of Python of the part "api" can name: networks, images, and calls that check.

A line that failed is tried again after `from scripts.bench.fuzz.names import *`.
"""

import copy
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attacks
import hypergen as h
from attacks import Threat
from hypergen.errors import InputError
from scripts.bench.fuzz.case import WrongFigureError, wrong_figures
from targets import Ensemble, Population, TargetError

__all__ = [
    "Answer", "Decimal", "Ensemble", "F", "Fraction", "Own", "Path", "Population", "Threat",
    "attacked", "attacks", "config", "digits", "h", "images", "indexed", "inference", "judged",
    "labels", "linear", "nn", "np", "own", "packed", "perturbed", "population", "same", "torch",
    "trained", "wide",
]  # fmt: skip

RNG = torch.Generator().manual_seed(0)
images = torch.rand(3, 1, 4, 4, generator=RNG)
wide = torch.rand(3, 1, 4, 8, generator=RNG)
digits = torch.rand(3, 1, 8, 8, generator=RNG)
labels = torch.tensor([0, 1, 2])
ROUNDING = 1e-4
"""How far, relative to its largest logit, a population may be from its modules."""


class Own(nn.Module):
    """A network whose answer is changed by `own`, called with it; images [B,1,4,4] to [B,3]."""

    def __init__(self, change: Callable[..., Any] = lambda logits: logits, size: int = 16):
        super().__init__()
        layer = nn.utils.skip_init(nn.Linear, size, 3)  # which draws nothing
        assert isinstance(layer, nn.Linear)
        self.change, self.layer = change, layer
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 3 * size).sin().view(3, size))
            self.layer.bias.zero_()

    def own_forward(self, x: Tensor) -> Any:
        """What it does; an error in here is the network's, and no fault of who calls it."""
        return self.change(self.layer(x.flatten(1).to(self.layer.weight.dtype)))

    def forward(self, x: Tensor) -> Any:
        """As `own_forward`."""
        return self.own_forward(x)


linear = Own()
population = Population.of([Own() for _ in range(3)])
config = h.TrainConfig()


class Answer(dict):
    """What some libraries' networks answer with."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def own(change: str = "z", size: int = 16) -> Own:
    """A network that answers with an expression of its logits z [B,3]."""
    return Own(eval(f"lambda z: {change}"), size)


def packed(network: Callable[[Tensor], Any], count: int = 2) -> Callable[[Tensor], Any]:
    """The same network `count` times, as one model from [P,B,C,H,W] to [P,B,K]."""
    if not callable(network):
        raise InputError("no network, whose error would be its own")

    def model(points: Tensor) -> Any:
        answers = [network(points[index]) for index in range(count)]
        return torch.stack(answers) if isinstance(answers[0], Tensor) else answers[0]

    return model


def inference(tensor: Tensor) -> Tensor:
    """The same values as a tensor of inference mode."""
    with torch.inference_mode():
        return tensor.clone()


def attacked(name: Any, network: Any, images: Any, labels: Any, **options: Any) -> None:
    """`hypergen.attack`, whose result is checked."""
    result = h.attack(name, network, images, labels, **options)
    threat = name.threat if isinstance(name, attacks.Attack) else None
    if threat is None:
        threat = Threat(options.get("norm") or "linf", options["epsilon"])
    require_result(result, torch.as_tensor(images)[None], threat)


def require_result(result: attacks.AttackResult, clean: Tensor, threat: Threat) -> None:
    """Raises WrongFigureError for images outside the threat, or shares that are none."""
    found = result.images if result.images.ndim == 5 else result.images[None]
    clean = clean.detach().clamp(0, 1).to(found)
    shares = result.robust_accuracy.flatten().tolist()
    if not all(0 <= share <= 1 for share in shares):
        raise WrongFigureError(f"robust accuracy {shares}")
    if not (found.isfinite().all() and found.min() >= 0 and found.max() <= 1):
        raise WrongFigureError(f"images from {found.min()} to {found.max()}")
    beyond = float((threat.distance(found, clean) - threat.epsilon).max())
    if beyond > 1e-5 * max(1, threat.epsilon):
        raise WrongFigureError(f"images {beyond:g} beyond the threat")


def perturbed(attack: attacks.Attack, model: Any, images: Any, labels: Any, seeds: Any) -> None:
    """An attack on P networks, and what it makes to train on; both checked."""
    result = attack(model, images, labels, seeds)
    require_result(result, torch.as_tensor(images), attack.threat)
    if attack.perturbs:
        points = attack.perturb(model, images, labels, seeds)
        outside = attack.threat.distance(points, torch.as_tensor(images).detach().to(points))
        if float(outside.max()) > attack.threat.epsilon * (1 + 1e-5) + 1e-5:
            raise WrongFigureError(f"perturbed by {float(outside.max())}")


def judged(networks: Any, dataset: Any = "digits", **options: Any) -> None:
    """`hypergen.evaluate`, whose figures are checked."""
    brief: dict[str, Any] = {"images": 4, "steps": 1, "restarts": 1}
    result = h.evaluate(networks, dataset, **(brief | options))
    if wrong := wrong_figures(result):
        raise WrongFigureError("; ".join(wrong))


def trained(**options: Any) -> h.Run:
    """`hypergen.train` with tiny settings, unless others are given; its figures are checked."""
    tiny: dict[str, Any] = {"target": "mlp", "steps": 1, "population": 2, "batch_size": 4}
    tiny |= {"replay_size": 4, "value_steps": 1, "max_robustness_gap": 1.0, "latent_size": 2}
    tiny |= {"samples": 1, "images": 2, "sra_samples": 0, "baselines": False, "out": "new"}
    run = h.train(**(tiny | options))
    if wrong := wrong_figures(run.results):
        raise WrongFigureError("; ".join(wrong))
    return run


def same(make: Callable[[], tuple[nn.Module, Tensor]]) -> None:
    """Raises WrongFigureError unless a population of a module computes what the module does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            module, images = make()
        except (RuntimeError, ValueError):  # there is no such module
            return
    modules = [copy.deepcopy(module).eval() for _ in range(2)]
    with torch.no_grad():
        for parameter in modules[1].parameters():
            parameter.mul_(0.5)
        try:
            expected = [each(images.clone()) for each in modules]
        except (RuntimeError, ValueError):  # no images for this module
            return
    with torch.no_grad():
        found = Population.of(modules)(torch.stack([images, images]))
    for index, logits in enumerate(expected):
        bound = ROUNDING * max(1.0, float(logits.abs().max())) if logits.numel() else 0.0
        close = torch.allclose(found[index], logits, rtol=0, atol=bound, equal_nan=True)
        if found[index].shape != logits.shape or found.dtype != logits.dtype or not close:
            raise WrongFigureError(f"population {found[index]} and module {logits}")


def indexed(population: Any, index: Any) -> None:
    """Raises WrongFigureError unless indices do and fail as those of a list."""
    try:
        expected: Any = list(range(len(population)))[index]
    except (IndexError, TypeError, ValueError) as error:
        expected = type(error)
    try:
        found = population[index]
    except (IndexError, TypeError, ValueError, TargetError) as error:
        if not isinstance(expected, type):
            raise WrongFigureError(f"index {index!r} raises {error!r}") from error
        if type(error) is not expected:
            raise
        return
    if isinstance(expected, type):
        raise WrongFigureError(f"index {index!r} gives something, a list {expected.__name__}")
    if isinstance(expected, list) and len(found) != len(expected):
        raise WrongFigureError(f"index {index!r} gives {len(found)} networks")
