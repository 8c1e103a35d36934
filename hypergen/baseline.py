"""Directly trained networks: ordinary, FBF and PGD training of any target, one recipe for all.

The recipe is that of "Fast is better than free" (Wong, Rice, Kolter 2020) for MNIST: Adam, batches
of 100, 10 epochs, learning rate 0 -> 5e-3 -> 0 with its peak at 40 %. PGD training is Madry et al.
2018 with 7 steps. Four things differ, each because networks were found better for it. The radius
trained against grows with the learning rate and then stays there (from the start at the full one,
many seeds never leave the constant classifier); it ends somewhat beyond the radius judged; of three
lengths of FBF's step, .5, 1 and 2 times that radius instead of always 1.25, each image gets the one
that hurts most (with one length a network overfits to that one step; Kim et al. 2021); and the
epoch that does best on validation images is kept (Rice et al. 2020). One-step training can lose its
robustness from one epoch to the next ("catastrophic overfitting"): then it goes on from there.
"""

import copy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attacks
import targets
from attacks.threat import NORMS
from hypergen import data
from hypergen.config import BASE_METHODS, require_known, threat_on
from hypergen.errors import InputError, RunError
from hypergen.measure import survivors
from hypergen.tracking import Bar
from hypergen.weights_file import save_network
from targets.fast_cpu import FastCPU

BATCH_SIZE = 100
PEAK_LEARNING_RATE = 5e-3
PEAK_AT = 0.4
PGD_STEPS = 7
VALIDATION_IMAGES = 500
LOST = 0.1
"""Drop on validation images after which training goes back to its best epoch: well beyond chance,
or training judged on few images would never get ahead."""


@dataclass(frozen=True)
class BaselineConfig:
    """One network trained directly on its own weights."""

    method: str = "fbf"
    """standard (clean images), fbf (one random-start FGSM step) or pgd (7 steps)"""
    dataset: str = "digits"
    """digits, mnist, fashion-mnist, cifar10 or svhn"""
    target: str = "small-lenet5"
    """architecture: small-lenet5, lenet5, fbf-cnn, mlp, alexnet, resnet18 (torchvision's), vgg,
    light-cnn, resnet20, resnet56, preactresnet18; the last five have batch norm or, as NAME-group
    and NAME-none, group norm or none"""
    activation: str = "relu"
    """relu, leaky_relu, elu, gelu, swish, tanh, softplus, kwta"""
    norm: str = "linf"
    """norm of the threat trained against: linf, l2 or, by pgd, l1"""
    epsilon: float | None = None
    """its radius, pixels in [0,1]; default in linf: the data set's usual one"""
    epsilon_factor: float = 1.15
    """radius trained against in the end, relative to epsilon"""
    epochs: int | None = None
    """passes over the training images; default: 10 (digits: 40, for it is small)"""
    seed: int = 0
    """of the initial weights, the order of images, dropout and the attack's starts"""

    def __post_init__(self) -> None:
        require_known("method", self.method, BASE_METHODS)
        require_known("data set", self.dataset, data.names())
        require_known("target", self.target, targets.TARGETS)
        require_known("activation", self.activation, targets.ACTIVATIONS)
        require_known("norm", self.norm, NORMS)
        if self.epochs is not None and self.epochs < 1:
            raise InputError(f"--epochs must be at least 1, got {self.epochs}")
        self.threat, self.training_attack(1.0)  # noqa: B018

    @property
    def length(self) -> int:
        """Epochs in fact."""
        return self.epochs or (40 if self.dataset == "digits" else 10)

    @property
    def threat(self) -> attacks.Threat:
        """What the network is to withstand."""
        return threat_on(self.dataset, self.norm, self.epsilon)

    def training_attack(self, progress: float) -> attacks.PGD | None:
        """What makes the images trained on, at `progress` in (0,1]; None for clean images."""
        if self.method == "standard" or self.threat.epsilon * self.epsilon_factor == 0:
            return None
        grown = self.epsilon_factor * min(1.0, progress / PEAK_AT)
        threat = attacks.Threat(self.norm, self.threat.epsilon * grown)
        if self.method == "fbf":
            return attacks.LineSearchFGSM(threat)
        return attacks.PGD(threat, steps=PGD_STEPS)


def train_baseline(
    config: BaselineConfig, dataset: data.Dataset, device: torch.device, show: bool = True
) -> nn.Module:
    """A network trained by `config`, in evaluation mode on `device`; the same for the same seed."""
    rng = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # initial weights and dropout draw from the global state
        module = fresh_target(config.target, config.activation, config.dataset).to(device)
        optimizer = torch.optim.Adam(module.parameters(), lr=PEAK_LEARNING_RATE)
        per_epoch = -(-len(dataset.train) // BATCH_SIZE)
        total = config.length * per_epoch
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: triangle((step + 1) / (total + 1))
        )
        bar = Bar(f"{config.method} baseline", total) if show else None
        step, best, best_state = 0, -1.0, module.state_dict()
        for _ in range(config.length):
            module.train()
            for images, labels in dataset.train.batches(BATCH_SIZE, rng):
                step += 1
                attack = config.training_attack(step / total)
                if attack is not None:
                    images = perturb(module, images, labels, attack, rng)
                loss = F.cross_entropy(module(images), labels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                scheduler.step()
                if bar:
                    bar.advance()
            if not all(p.isfinite().all() for p in module.parameters()):
                raise RunError(f"{config.method} training diverged: the weights are NaN")
            worth = validate(module.eval(), config, dataset)
            if worth >= best:
                best, best_state = worth, copy.deepcopy(module.state_dict())
            elif worth < best - LOST:
                module.load_state_dict(best_state)
        if bar:
            bar.close()
    module.load_state_dict(best_state)
    return module.eval()


def validate(module: nn.Module, config: BaselineConfig, dataset: data.Dataset) -> float:
    """Share of 500 validation images kept, under PGD-10 where the method is adversarial."""
    attack = None if config.method == "standard" else attacks.PGD(config.threat, steps=10)
    images, labels = dataset.val.first(VALIDATION_IMAGES)
    table = survivors(targets.Population.of([module]), images, labels, attack, config.seed)
    return float(list(table.values())[-1].float().mean())


def triangle(progress: float) -> float:
    """0 -> 1 at 40 % of the training -> 0."""
    return min(progress / PEAK_AT, (1 - progress) / (1 - PEAK_AT))


def perturb(
    module: nn.Module, images: Tensor, labels: Tensor, attack: attacks.PGD, rng: torch.Generator
) -> Tensor:
    """The attacked images [B,C,H,W] that the next weight step is made on."""
    seed = int(torch.randint(2**31, (), generator=rng))

    def model(points: Tensor) -> Tensor:
        with FastCPU():
            return module(points[0])[None]

    return attack.perturb(model, images[None], labels, [seed])[0]


def fresh_target(target: str, activation: str, dataset: str) -> nn.Module:
    """A target for the named data set, initialised from PyTorch's global random state."""
    return targets.build(target, activation, data.NUM_CLASSES, data.image_shape(dataset))


def describe(target: str, activation: str, dataset: str) -> dict[str, Any]:
    """The metadata that every weight file needs to be opened again."""
    layout = targets.WeightLayout.of(fresh_target(target, activation, dataset))
    return {
        "target": target,
        "activation": activation,
        "num_classes": data.NUM_CLASSES,
        "input_shape": list(data.image_shape(dataset)),
        "layout": layout.fingerprint,
        "dataset": dataset,
    }


def save_baseline(path: Path, module: nn.Module, config: BaselineConfig, **figures: Any) -> None:
    """Writes a weight file with what made it and the figures measured."""
    metadata = describe(config.target, config.activation, config.dataset)
    metadata |= {
        "method": config.method,
        "epochs": config.length,
        "epsilon_factor": config.epsilon_factor,
        "seed": config.seed,
        "version": version("hypergen"),
        "epsilon": config.threat.epsilon,
        "norm": config.norm,
        **figures,
    }
    save_network(path, module.state_dict(), metadata)


def make_baseline(
    config: BaselineConfig, out: Path, device: torch.device, data_dir: Path | None
) -> Path:
    """`hypergen baseline`: trains, writes out/network.safetensors and prints its accuracy."""
    path = out / "network.safetensors"
    if path.exists():
        raise InputError(f"{path} exists; choose another --out")
    dataset = data.load(config.dataset, data_dir, device)
    module = train_baseline(config, dataset, device)
    images, labels = dataset.test.first(len(dataset.test))
    accuracy = survivors(targets.Population.of([module]), images, labels, None, 0)["clean"]
    out.mkdir(parents=True, exist_ok=True)
    save_baseline(path, module, config, accuracy=float(accuracy.float().mean()))
    print(f"{path}: accuracy {100 * float(accuracy.float().mean()):.2f} % of {dataset.name} test")
    print(f"robustness: hypergen evaluate {path} --attack standard --images 100")
    return path
