"""Direct training of any target on its own weights: ordinarily, against attacks, or by bounds.

By the recipe for the images at hand (`hypergen.training.recipes`), and whatever that is, the epoch
that does best on validation images is kept (Rice et al. 2020). One-step training can lose its
robustness from one epoch to the next ("catastrophic overfitting"): then it goes on from the best.
"""

import contextlib
import copy
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attacks
import targets
from attacks.losses import divergence
from hypergen.data import Dataset
from hypergen.errors import RunError
from hypergen.measures import Accuracy, Certified, Stage, judged
from hypergen.measures.attacked import attack_population
from hypergen.models.bundle import fresh_target
from hypergen.models.ema import ema
from hypergen.runtime.cuda_graphs import CUDAGraphFunction, CUDAGraphModel
from hypergen.runtime.precision import Precision, chosen_precision, full_precision, multiplying_in
from hypergen.runtime.rng import OwnDropout, global_state_of, seeded
from hypergen.storage.checkpoint import load_optimizer
from hypergen.training.direct_config import BaselineConfig, DirectPlan, TrainingAttack
from hypergen.training.interval_bounds import IntervalBounds, IntervalLoss
from hypergen.training.micro_batches import micro_batch
from hypergen.training.weight_perturbation import moved_up
from targets import in_parts
from targets.spectral_bound import SpectralBound

VALIDATION_IMAGES = 500
MAX_VALIDATION_DROP = 0.1
"""Drop on validation images after which training goes back to its best epoch: well beyond chance,
or training validated on few images would never get ahead."""


class DirectTrainer:
    """Everything that an epoch changes, and the epoch itself.

    `rng` decides the order of images, their augmentation and the attacks' starts, `noise` what
    dropout does; with the tensors here they are the whole state, so a training continued from
    `state_dict` computes what it would have without the stop. `ema` follows `module` and is the
    network that is validated and kept, its k-WTA layers always at their final share. `seconds` is
    what the epochs took, their validation included: on the CPU the process's time on all cores
    together, which other work on the machine does not lengthen; on a GPU the time on the clock.
    """

    def __init__(self, config: BaselineConfig, dataset: Dataset, device: torch.device):
        self.config, self.dataset, self.device = config, dataset, device
        self.plan = DirectPlan.of(config, dataset.info, len(dataset.train))
        gains = self.plan.recipe.gains_by_bf16
        self.precision: Precision = chosen_precision(config.precision, device, gains)
        self.rng = torch.Generator().manual_seed(config.seed)
        with seeded(config.seed):
            module = fresh_target(config.target, config.activation, dataset.info, config.pretrained)
            self.module = module.to(device).to(memory_format=convolution_format(device))
            self.bound = None
            if config.lipschitz_bound is not None:
                shape = dataset.info.input_shape
                self.bound = SpectralBound(module, shape, config.lipschitz_bound)
                self.bound.project(module)
            self.ema = ema(self.module, self.plan.ema_decay)
            self.noise = global_state_of(device)
        self.interval_loss = IntervalLoss(module) if config.method == "ibp" else None
        dropout = nn.modules.dropout._DropoutNd
        self.dropouts = [layer for layer in module.modules() if isinstance(layer, dropout)]
        batch = min(self.plan.recipe.batch_size, len(dataset.train)) * (
            2 if config.method == "trades" else 1
        )
        with_bounds = self.interval_loss is not None
        self.part = micro_batch(self.module, batch, dataset.input_shape, device, with_bounds)
        # Every step, so that it can be recorded; with bounds nobody has tried.
        alike = not self.dropouts and config.share_start is None and self.part is None
        alike &= not with_bounds
        self.model = CUDAGraphModel(self._logits, self.module) if alike else self._logits
        self.gradients = (
            CUDAGraphFunction(self._gradients, self.module) if alike else self._gradients
        )
        parameters = self.module.parameters()
        self.optimizer = self.plan.recipe.optimizer_of(parameters, self.plan.learning_rate)
        self._clock = time.process_time if device.type == "cpu" else time.perf_counter
        self.fast: contextlib.AbstractContextManager[Any] | None = None  # known by the first images
        self.steps = self.plan.steps
        self.step, self.epoch, self.seconds = 0, 0, 0.0
        self.best, self.best_state = -1.0, copy.deepcopy(self.module.state_dict())

    def advance(self, after_step: Callable[[], object] = lambda: None) -> None:
        """One epoch and its validation, after which the best epoch is known.

        after_step: is called after each step of the weights. `RunError`: the training diverged.
        """
        average, clock = self.ema.module, self._clock
        begun = clock()
        try:
            self.train_epoch(after_step)
            if not all(p.isfinite().all() for p in self.module.parameters()):
                raise RunError(f"{self.config.method} training diverged: the weights are NaN")
            score = validate(average.eval(), self.config, self.dataset)
        except attacks.AttackError as error:  # the logits are no numbers
            raise RunError(f"{self.config.method} training diverged: {error}") from error
        self.epoch += 1
        if score >= self.best:
            self.best, self.best_state = score, copy.deepcopy(average.state_dict())
        elif score < self.best - MAX_VALIDATION_DROP:
            self.module.load_state_dict(self.best_state)
            average.load_state_dict(self.best_state)
        self.seconds += clock() - begun

    def train_epoch(self, after_step: Callable[[], object] = lambda: None) -> None:
        """The steps of an epoch alone."""
        self.module.train()
        if self.interval_loss is not None:  # published without dropout
            for layer in self.dropouts:
                layer.eval()
        share = self.plan.share(self.epoch)
        if share is not None:
            targets.set_share(self.module, share)
        batch_size = self.plan.recipe.batch_size
        for images, labels in self.dataset.train.batches(batch_size, self.rng):
            self.step += 1
            attack = self.plan.training_attack(self.step / self.steps)
            rate = self.plan.learning_rate * self.plan.recipe.rate(self.step / (self.steps + 1))
            self.take_step(images, labels, attack, rate)
            self.ema.update_parameters(self.module)
            after_step()

    @full_precision()
    def take_step(
        self, images: Tensor, labels: Tensor, attack: TrainingAttack | None, rate: float
    ) -> Tensor:
        """One step of the weights at the learning rate `rate`; the loss before it, a scalar.

        images: [B,C,H,W], before augmentation; attack: None to train on clean images.
        """
        images = self.dataset.augmented(images, self.rng)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with OwnDropout(self.noise):
            inputs = [images, *self._adversary(images, labels, attack)]
            loss, *gradients = self.gradients(labels, *inputs)
            if self.config.awp:
                with moved_up(self.module, gradients, self.config.awp):
                    _, *gradients = self.gradients(labels, *inputs)
        for weights, gradient in zip(self.module.parameters(), gradients, strict=True):
            weights.grad = gradient
        self.optimizer.step()
        if self.bound is not None:  # so is their moving average, for norms are convex
            self.bound.project(self.module)
        return loss.clone()

    def _adversary(
        self, images: Tensor, labels: Tensor, attack: TrainingAttack | None
    ) -> list[Tensor]:
        """What stands beside clean images in the loss: attacked ones, or the size of bounds."""
        if attack is None:
            return []
        if isinstance(attack, IntervalBounds):
            return [attack.size_on(images)]
        if self.fast is None:
            self.fast = targets.fast_context(self.module, images)
        parts = attack if isinstance(attack, tuple) else (attack,)
        return [perturb(self.model, images, labels, part, self.rng, self.fast) for part in parts]

    def _gradients(self, labels: Tensor, images: Tensor, *attacked: Tensor) -> Sequence[Tensor]:
        """The loss on images [B,C,H,W], and on attacked ones, and its gradient for each tensor."""
        config, smoothing = self.config, self.config.label_smoothing
        weights = list(self.module.parameters())
        if self.interval_loss is not None and attacked:
            loss = self.interval_loss(self.module, images, labels, attacked[0], smoothing)
            return loss.detach(), *torch.autograd.grad(loss, weights)
        if config.method == "trades" and attacked:
            clean = self._logits(images)
            change = divergence(clean, self._logits(*attacked)).mean()
            loss = F.cross_entropy(clean, labels, label_smoothing=smoothing)
            loss = loss + config.trades_weight * change
            return loss.detach(), *torch.autograd.grad(loss, weights)
        beta = config.beta if attacked else 0.0
        total = torch.zeros((), device=images.device)
        gradients: Sequence[Tensor] = ()
        parts = [(beta / len(attacked), each) for each in attacked] + [(1 - beta, images)]
        for share, inputs in parts:  # one after the other: what is kept of one is enough
            if share > 0:
                logits = self._logits(inputs)
                loss = share * F.cross_entropy(logits, labels, label_smoothing=smoothing)
                more = torch.autograd.grad(loss, weights)
                gradients = torch._foreach_add(gradients, more) if gradients else more  # type: ignore
                total = total + loss.detach()
        return total, *gradients

    def _logits(self, images: Tensor) -> Tensor:
        """Of the network in training, [B,K], by few bits where that is faster."""
        with multiplying_in(self.precision, self.device):
            if self.part is None:
                return self.module(images).float()
            return in_parts(self.module, images, self.part).float()

    def state_dict(self) -> dict[str, Any]:
        """The whole state, for a checkpoint."""
        return {
            "config": dataclasses.asdict(self.config),
            "step": self.step,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "rng": self.rng.get_state(),
            "noise": self.noise.get_state(),
            "module": dict(self.module.state_dict()),
            "ema": dict(self.ema.state_dict()),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "best_state": dict(self.best_state),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.step, self.epoch, self.best = state["step"], state["epoch"], state["best"]
        self.seconds = state["seconds"]
        self.rng.set_state(state["rng"])
        if state["noise"].shape == self.noise.get_state().shape:  # else of another kind of device
            self.noise.set_state(state["noise"])
        self.module.load_state_dict(state["module"])
        self.ema.load_state_dict(state["ema"])
        load_optimizer(self.optimizer, state["optimizer"])
        self.best_state = {
            name: t.to(self.device, copy=True) for name, t in state["best_state"].items()
        }


def train_direct(
    trainer: DirectTrainer,
    after_step: Callable[[], object] = lambda: None,
    save: Callable[[dict[str, Any]], object] = lambda state: None,
) -> nn.Module:
    """The network of the best epoch, in evaluation mode; the same for the same seed.

    after_step: is called after each step of the weights; save: is given the whole state after each
    epoch.
    """
    while trainer.epoch < trainer.plan.epochs:
        trainer.advance(after_step)
        save(trainer.state_dict())
    network = trainer.ema.module
    network.load_state_dict(trainer.best_state)
    return network.eval()


def validate(module: nn.Module, config: BaselineConfig, dataset: Dataset) -> float:
    """Accuracy in [0,1] on 500 validation images, clean and under PGD-10, weighted as the loss.

    Of several norms an image must withstand PGD-10 in each. By interval bounds: accuracy and the
    certified share, one as much as the other.
    """
    images, labels = dataset.val.first(VALIDATION_IMAGES)
    population = targets.Population.of([module])
    if config.method == "ibp":
        measures, stage = [Accuracy(), Certified(config.threat)], Stage(attacks.PGD, config.seed)
        return float(judged(measures, population, images, labels, stage).mean())
    beta = 0.0 if config.method == "standard" else config.beta
    each = [attacks.PGD(threat, steps=10) for threat in config.threats]
    attack = attacks.Suite(*each) if beta > 0 else None
    masks = attack_population(population, images, labels, attack, config.seed)
    clean, robust = float(masks.clean.double().mean()), float(masks.robust.double().mean())
    return (1 - beta) * clean + beta * robust


def convolution_format(device: torch.device) -> torch.memory_format:
    """How weights of convolutions had better lie: tensor cores want channels last."""
    return torch.channels_last if device.type == "cuda" else torch.contiguous_format


def perturb(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    attack: attacks.Attack | attacks.MSD | attacks.NFGSM | attacks.TRADES,
    rng: torch.Generator,
    fast: contextlib.AbstractContextManager[Any],
) -> Tensor:
    """The attacked images [B,C,H,W] that the next weight step is made on.

    fast: the context in which the network is fastest.
    """
    seed = int(torch.randint(2**31, (), generator=rng))

    def model(points: Tensor) -> Tensor:
        with fast:
            return network(points[0])[None]

    return attack.perturb(model, images[None], labels, [seed])[0]
