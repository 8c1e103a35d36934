"""Directly trained networks: ordinary, FBF and PGD training of any target.

By the recipe for the images at hand (`hypergen.recipe`), and whatever that is, the epoch that does
best on validation images is kept (Rice et al. 2020). One-step training can lose its robustness from
one epoch to the next ("catastrophic overfitting"): then it goes on from the best.
"""

import contextlib
import copy
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attacks
import targets
from hypergen import __version__, checkpoint, data
from hypergen.averaging import averaged
from hypergen.chance import OwnDropout, global_state_of, seeded
from hypergen.checkpoint import CHECKPOINT
from hypergen.config import (
    BASE_METHODS,
    differences,
    require_at_least,
    require_known,
    require_norm,
    require_seed,
    require_shares,
    threat_on,
)
from hypergen.cuda_graphs import Recorded, RecordedModel
from hypergen.errors import InputError, RunError
from hypergen.lock import locked
from hypergen.measure import accuracies, half_precision, survivors
from hypergen.recipe import PEAK_AT, PGD_STEPS, Recipe, recipe_for, triangle
from hypergen.tracking import Bar
from hypergen.weights_file import read_metadata, save_network
from targets import concurrently, jobs_at_once
from targets.fast_cpu import FastCPU
from targets.kwta import KWTA

NETWORK = "network.safetensors"
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
    """architecture: small-lenet5, lenet5, fbf-cnn, mlp, wide-mlp, alexnet, resnet18 (these two
    torchvision's), vgg, light-cnn, resnet20, resnet56, preactresnet18; the last five have batch
    norm or, as NAME-group and NAME-none, group norm or none"""
    activation: str = "relu"
    """relu, leaky_relu, prelu, elu, gelu, swish, tanh, softplus, kwta-0.2 (or another share), kaf,
    kaf-relu, kaf-elu, kaf-swish, kaf-tanh, kaf-identity, kaf-free, kaf-authors (with their
    constants); of 20 points, or as NAME-40 of another number"""
    pretrained: bool = False
    """start from torchvision's weights for ImageNet, downloaded: alexnet and resnet18"""
    beta: float = 1.0
    """weight of the attacked images in the loss; what is left to 1 is that of the clean ones"""
    norm: str = "linf"
    """norm of the threat trained against: linf, l2 or, by pgd, l1"""
    epsilon: float | None = None
    """its radius, pixels in [0,1]; default in linf: the data set's usual one"""
    epsilon_factor: float | None = None
    """radius trained against in the end, relative to epsilon; default: 1.15, on colour images 1"""
    epochs: int | None = None
    """passes over the training images; default: 10, digits 40, colour images 30"""
    learning_rate: float | None = None
    """the highest, reached at 40 % of the training; default: .005 (Adam), colour images .2 (SGD; of
    vgg .08 to 2 by the activation)"""
    share_start: float | None = None
    """share that k-WTA keeps in the first epoch; it falls evenly, epoch by epoch, to the
    activation's own over the first half of the training, as in Xiao et al. 2020 from .2; whatever
    is trained at, the activation's own is what is validated and written; default: no other"""
    ema_decay: float = 0.0
    """of the weights' moving average, which then is what is validated and written; 0 for none"""
    seed: int = 0
    """of the initial weights, the order of images, dropout and the attack's starts"""

    def __post_init__(self) -> None:
        require_known("method", self.method, BASE_METHODS)
        require_known("data set", self.dataset, data.names())
        require_known("target", self.target, targets.TARGETS)
        targets.activation_factory(self.activation)  # raises TargetError
        require_norm(self.norm)
        require_at_least(self, ("epochs",), 1)
        require_at_least(self, ("epsilon_factor",), 0)
        require_shares(self, ("beta",))
        if self.learning_rate is not None and not 0 < self.learning_rate < 1e30:
            raise InputError(
                f"--learning-rate must be above 0 and below 1e30, got {self.learning_rate}"
            )
        if self.method == "standard" and (self.beta, self.epsilon_factor) != (1.0, None):
            raise InputError("--beta and --epsilon-factor are of attacked images: not of standard")
        if self.share_start is not None:
            if self.final_share is None:
                raise InputError(
                    f"--share-start needs k-WTA, such as kwta-0.1, not {self.activation}"
                )
            if not self.final_share <= self.share_start <= 1:
                raise InputError(
                    f"--share-start with {self.activation} must lie in [{self.final_share:g},1], "
                    f"got {self.share_start}"
                )
        require_seed(self.seed)
        if not 0 <= self.ema_decay < 1:
            raise InputError(f"--ema-decay must lie in [0,1), got {self.ema_decay}")
        self.threat, self.training_attack(1.0)  # noqa: B018

    @property
    def recipe(self) -> Recipe:
        """What the defaults are taken from."""
        return recipe_for(self.dataset, self.target, self.activation)

    @property
    def length(self) -> int:
        """Epochs in fact."""
        return self.epochs or self.recipe.epochs

    def steps(self, dataset: data.Dataset) -> int:
        """Of the weights, on this data set."""
        return self.length * -(-len(dataset.train) // self.recipe.batch_size)

    @property
    def rate(self) -> float:
        """The highest learning rate in fact."""
        return self.learning_rate or self.recipe.learning_rate

    @property
    def radius(self) -> float:
        """What is trained against in the end, in units of the threat's norm."""
        return self.recipe.radius(self.threat.epsilon, self.epsilon_factor)

    @property
    def final_share(self) -> float | None:
        """What k-WTA keeps in the end; None with another activation."""
        layer = targets.activation_factory(self.activation)(1)
        return layer.share if isinstance(layer, KWTA) else None

    def share(self, epoch: int) -> float | None:
        """What k-WTA keeps while epoch 0, 1, ... is trained; None without a schedule of its own."""
        if self.share_start is None or self.final_share is None:
            return None
        above = max(0.0, 1 - 2 * epoch / self.length)
        return self.final_share + (self.share_start - self.final_share) * above

    @property
    def threat(self) -> attacks.Threat:
        """What the network is to withstand."""
        return threat_on(self.dataset, self.norm, self.epsilon)

    def training_attack(self, progress: float) -> attacks.PGD | None:
        """What makes the images trained on, at `progress` in (0,1]; None for clean images."""
        if self.method == "standard" or self.radius == 0 or self.beta == 0:
            return None
        grown = min(1.0, progress / PEAK_AT) if self.recipe.growing else 1.0
        threat = attacks.Threat(self.norm, self.radius * grown)
        return self.recipe.fbf(threat) if self.method == "fbf" else attacks.PGD(threat, PGD_STEPS)


class BaselineTraining:
    """Everything that an epoch changes, and the epoch itself.

    `rng` decides the order of images, their augmentation and the attacks' starts, `noise` what
    dropout does; with the tensors here they are the whole state, so a training continued from
    `state_dict` computes what it would have without the stop. `averaged` follows `module` and is
    the network that is judged and kept, its k-WTA layers always at their final share.
    """

    def __init__(self, config: BaselineConfig, dataset: data.Dataset, device: torch.device):
        self.config, self.dataset, self.device = config, dataset, device
        self.rng = torch.Generator().manual_seed(config.seed)
        with seeded(config.seed):
            module = fresh_target(
                config.target, config.activation, config.dataset, config.pretrained
            )
            self.module = module.to(device).to(memory_format=convolution_format(device))
            self.averaged = averaged(self.module, config.ema_decay)
            self.noise = global_state_of(device)
        drops = any(isinstance(layer, nn.Dropout) for layer in module.modules())
        alike = not drops and config.share_start is None  # every step, so that it can be recorded
        self.model = RecordedModel(self._logits, self.module) if alike else self._logits
        self.gradients = Recorded(self._gradients, self.module) if alike else self._gradients
        self.optimizer = config.recipe.optimizer_of(self.module.parameters(), config.rate)
        self.steps = config.steps(dataset)
        self.step, self.epoch = 0, 0
        self.best, self.best_state = -1.0, copy.deepcopy(self.module.state_dict())

    def advance(self, after_step: Callable[[], None] = lambda: None) -> None:
        """One epoch and its validation; `RunError` when the training has diverged."""
        judged = self.averaged.module
        try:
            self.train_epoch(after_step)
            if not all(p.isfinite().all() for p in self.module.parameters()):
                raise RunError(f"{self.config.method} training diverged: the weights are NaN")
            worth = validate(judged.eval(), self.config, self.dataset)
        except attacks.AttackError as error:  # the logits are no numbers
            raise RunError(f"{self.config.method} training diverged: {error}") from error
        self.epoch += 1
        if worth >= self.best:
            self.best, self.best_state = worth, copy.deepcopy(judged.state_dict())
        elif worth < self.best - LOST:
            self.module.load_state_dict(self.best_state)
            judged.load_state_dict(self.best_state)

    def train_epoch(self, after_step: Callable[[], None] = lambda: None) -> None:
        """The steps of an epoch alone."""
        self.module.train()
        share = self.config.share(self.epoch)
        if share is not None:
            targets.set_share(self.module, share)
        for images, labels in self.dataset.train.batches(self.config.recipe.batch_size, self.rng):
            self.step += 1
            self.take_step(
                images,
                labels,
                self.config.training_attack(self.step / self.steps),
                self.config.rate * triangle(self.step / (self.steps + 1)),
            )
            self.averaged.update_parameters(self.module)
            after_step()

    def take_step(
        self, images: Tensor, labels: Tensor, attack: attacks.PGD | None, rate: float
    ) -> Tensor:
        """One step of the weights at a learning rate; the loss before it."""
        images = self.dataset.augmented(images, self.rng)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with OwnDropout(self.noise):
            parts = [images]
            if attack is not None:
                parts.append(perturb(self.model, images, labels, attack, self.rng))
            loss, *gradients = self.gradients(labels, *parts)
        for weights, gradient in zip(self.module.parameters(), gradients, strict=True):
            weights.grad = gradient
        self.optimizer.step()
        return loss.clone()

    def _gradients(
        self, labels: Tensor, images: Tensor, attacked: Tensor | None = None
    ) -> Sequence[Tensor]:
        """The loss on images [B,C,H,W], and on attacked ones, and its gradient for each tensor."""
        beta = 0.0 if attacked is None else self.config.beta
        loss = torch.zeros((), device=images.device)
        for weight, part in ((beta, attacked), (1 - beta, images)):
            if part is not None and weight > 0:
                loss = loss + weight * F.cross_entropy(self._logits(part), labels)
        return loss.detach(), *torch.autograd.grad(loss, list(self.module.parameters()))

    def _logits(self, images: Tensor) -> Tensor:
        """Of the network in training, [B,K], by few bits where that is faster."""
        with half_precision(self.device):
            return self.module(images).float()

    def state_dict(self) -> dict[str, Any]:
        """The whole state, for a checkpoint."""
        return {
            "config": asdict(self.config),
            "step": self.step,
            "epoch": self.epoch,
            "rng": self.rng.get_state(),
            "noise": self.noise.get_state(),
            "module": dict(self.module.state_dict()),
            "averaged": dict(self.averaged.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_state": dict(self.best_state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.step, self.epoch, self.best = state["step"], state["epoch"], state["best"]
        self.rng.set_state(state["rng"])
        if state["noise"].shape == self.noise.get_state().shape:  # else of another kind of device
            self.noise.set_state(state["noise"])
        self.module.load_state_dict(state["module"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_state = {name: t.to(self.device) for name, t in state["best_state"].items()}


def train_baseline(
    config: BaselineConfig,
    dataset: data.Dataset,
    device: torch.device,
    show: bool = True,
    saved: Path | None = None,
) -> nn.Module:
    """A network trained by `config`, in evaluation mode on `device`; the same for the same seed.

    saved: a checkpoint to continue from if it is there, and to write after every epoch.
    """
    training = continued(BaselineTraining(config, dataset, device), saved)
    bar = Bar(f"{config.method} baseline", training.steps, training.step) if show else None
    network = finished(training, saved, bar.advance if bar else lambda: None)
    if bar:
        bar.close()
    return network


def train_baselines(
    recipes: Mapping[Path, BaselineConfig],
    dataset: data.Dataset,
    device: torch.device,
    stop: threading.Event | None = None,
) -> None:
    """Writes the weight files that are not there yet; one that was cut short continues.

    Several networks are trained at once, one a core: what `train_baseline` makes of each on one
    core. A single one gets all cores. `RunError` once `stop` is set.
    """
    stop = stop or threading.Event()
    missing = {path: config for path, config in recipes.items() if not path.exists()}
    steps = sum(config.steps(dataset) for config in missing.values())
    bar = Bar("baselines", steps)

    def advance(count: int = 1) -> None:
        if stop.is_set():
            raise RunError("stopped")
        bar.advance(count)

    def write(job: tuple[Path, BaselineConfig]) -> None:
        path, config = job
        saved = path.with_suffix(".checkpoint.safetensors")
        training = continued(BaselineTraining(config, dataset, device), saved)
        advance(training.step)
        save_baseline(path, finished(training, saved, advance), config)
        saved.unlink()

    if len(recipes) == 1:
        written = map(write, missing.items())
    else:
        written = concurrently(write, missing.items(), jobs_at_once(device), stop)
    for _ in written:
        pass
    bar.close()


@contextlib.contextmanager
def trained_alongside(
    recipes: Mapping[Path, BaselineConfig], dataset: data.Dataset, device: torch.device
) -> Iterator[None]:
    """`train_baselines` while the body does something else; both have ended in the end.

    A body that fails or is interrupted stops them, to be continued another time. Not on a GPU,
    where no steps can be recorded while another thread launches anything.
    """
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        trained = pool.submit(train_baselines, recipes, dataset, device, stop)
        try:
            yield
            trained.result()
        except BaseException:
            stop.set()
            raise


def continued(training: BaselineTraining, saved: Path | None) -> BaselineTraining:
    """The training where the checkpoint left it, if there is one."""
    if saved is not None and saved.exists():
        checkpoint.restore(saved, training.load_state_dict)
    return training


def finished(
    training: BaselineTraining, saved: Path | None, after_step: Callable[[], None]
) -> nn.Module:
    """The network in the end, in evaluation mode; every epoch ends with a checkpoint."""
    while training.epoch < training.config.length:
        training.advance(after_step)
        if saved is not None:
            saved.parent.mkdir(parents=True, exist_ok=True)
            checkpoint.save(saved, training.state_dict())
    network = training.averaged.module
    network.load_state_dict(training.best_state)
    return network.eval()


def validate(module: nn.Module, config: BaselineConfig, dataset: data.Dataset) -> float:
    """Of 500 validation images the share kept, under PGD-10 and clean, weighted as in the loss."""
    beta = 0.0 if config.method == "standard" else config.beta
    attack = attacks.PGD(config.threat, steps=10) if beta > 0 else None
    images, labels = dataset.val.first(VALIDATION_IMAGES)
    table = survivors(targets.Population.of([module]), images, labels, attack, config.seed)
    shares = [float(left.float().mean()) for left in table.values()]
    return (1 - beta) * shares[0] + beta * shares[-1]


def convolution_format(device: torch.device) -> torch.memory_format:
    """How weights of convolutions had better lie: tensor cores want channels last."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def perturb(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    attack: attacks.PGD,
    rng: torch.Generator,
) -> Tensor:
    """The attacked images [B,C,H,W] that the next weight step is made on."""
    seed = int(torch.randint(2**31, (), generator=rng))

    def model(points: Tensor) -> Tensor:
        with FastCPU():
            return network(points[0])[None]

    return attack.perturb(model, images[None], labels, [seed])[0]


def fresh_target(target: str, activation: str, dataset: str, pretrained: bool = False) -> nn.Module:
    """A target for the named data set, initialised from PyTorch's global random state."""
    shape = data.image_shape(dataset)
    return targets.build(target, activation, data.NUM_CLASSES, shape, pretrained)


def describe(
    target: str, activation: str, dataset: str, layout: targets.WeightLayout
) -> dict[str, Any]:
    """The metadata that every weight file needs to be opened again."""
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
    layout = targets.WeightLayout.of(module)
    metadata = describe(config.target, config.activation, config.dataset, layout)
    metadata |= {**trained_by(config), "version": __version__, **figures}
    save_network(path, module.state_dict(), metadata)


def trained_by(config: BaselineConfig) -> dict[str, Any]:
    """What a weight file says of the training, beside `describe`."""
    return {
        "method": config.method,
        "epochs": config.length,
        "epsilon_trained": config.radius if config.training_attack(1.0) else 0.0,
        "learning_rate": config.rate,
        "beta": config.beta,
        "share_start": config.share_start,
        "ema_decay": config.ema_decay,
        "pretrained": config.pretrained,
        "seed": config.seed,
        "epsilon": config.threat.epsilon,
        "norm": config.norm,
    }


def require_trained_by(path: Path, config: BaselineConfig) -> None:
    """`InputError` for a weight file that `hypergen baseline` made with other settings."""
    told = {name: getattr(config, name) for name in ("target", "activation", "dataset")}
    apart = differences(read_metadata(path), told | trained_by(config))
    if apart:
        raise InputError(f"{path} was trained with other settings: {'; '.join(apart)}")


def make_baseline(
    config: BaselineConfig,
    out: Path,
    device: torch.device,
    data_dir: Path | None,
    resume: bool = False,
) -> Path:
    """`hypergen baseline`: trains, writes out/network.safetensors and prints its accuracy."""
    path, saved = out / NETWORK, out / CHECKPOINT
    if path.exists():
        raise InputError(f"{path} exists; choose another --out")
    if saved.exists():
        require_own(saved, config, resume)
    dataset = data.load(config.dataset, data_dir, device)
    with locked(out):
        try:
            module = train_baseline(config, dataset, device, saved=saved)
        except KeyboardInterrupt:
            if not saved.exists():
                raise
            again = f"the same command with --resume --out {shlex.quote(str(out))}"
            raise KeyboardInterrupt(f"; continue by {again}") from None
        whole = dataset.test.first(len(dataset.test))
        accuracy = float(accuracies(targets.Population.of([module]), *whole))
        save_baseline(path, module, config, accuracy=accuracy)
        saved.unlink()
    print(f"{path}: accuracy {100 * accuracy:.2f} % of {dataset.name} test")
    command = f"hypergen evaluate {shlex.quote(str(path))} --attack standard --images 100"
    print(f"robustness: {command}")
    return path


def require_own(saved: Path, config: BaselineConfig, resume: bool) -> None:
    """`InputError` unless the checkpoint is to be continued, and with its own settings."""
    begun = checkpoint.load(saved)
    if "config" not in begun:
        raise InputError(f"{saved.parent} holds a run, no direct training; choose another --out")
    if not resume:
        raise InputError(f"{saved.parent} holds a training cut short; add --resume")
    apart = differences(begun["config"], asdict(config))
    if apart:
        raise InputError(f"{saved.parent} was started with other settings: {'; '.join(apart)}")
