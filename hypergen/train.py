"""The training loop: generate, measure, fit the value network, improve the generator."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

import attacks
from hypergen import checkpoint, objective
from hypergen.averaging import Average, averaged
from hypergen.baseline import (
    BaselineConfig,
    describe,
    fresh_target,
    train_baselines,
)
from hypergen.chance import seeded
from hypergen.checkpoint import CHECKPOINT
from hypergen.config import BASE_METHODS, TrainConfig
from hypergen.cuda_graphs import Recorded, RecordedModel, RecordedPopulation
from hypergen.data import Dataset, image_shape
from hypergen.errors import InputError, RunError
from hypergen.generator import Generator, build_generator
from hypergen.latent import draw_beta, preference_weights
from hypergen.measure import (
    MEASURERS,
    MEASURES,
    ROBUSTNESS,
    Batch,
    Measure,
    attacked_batch,
    half_precision,
    named,
    pieces,
    recalibrated,
    survivors,
)
from hypergen.replay import Replay
from hypergen.scatter import scatter
from hypergen.tracking import Bar, Tracker
from hypergen.value_network import ValueNetwork, build_value_network
from hypergen.weights_file import load_network, read_metadata, read_network, save_network
from targets import Population, WeightLayout, concurrently, jobs_at_once

BASE = "base.safetensors"
CHECKPOINT_SECONDS = 20.0
VALUE_BATCH = 64
VALUE_PRETRAINING_STEPS = 500
PERTURBATIONS = 0.03, 3.0
"""Least and greatest size of a perturbation, relative to a layer's typical weight."""
STEP_CALIBRATION_IMAGES = 256
"""Training images that batch-norm statistics are measured on in a step; more would take most of it.
What is drawn from a run gets more."""
GROWS_FROM = 0.6
"""Share of the radius trained against that training begins with."""
WATCHED_SHARE = 0.2
"""How often, as a share of the run, a small SRA is taken."""
WATCHED_NETWORKS, WATCHED_IMAGES = 2, 40
RAISED = 4
"""How many times their steps attacks are given at most when the measurer flatters."""
SHOWN_NETWORKS = 128
"""How many of the last measured networks the scatter in TensorBoard shows."""


@dataclass
class Networks:
    """The networks of a run: the target, the generator and its average, the value network."""

    module: nn.Module
    generator: Generator
    averaged: Average
    value: ValueNetwork

    @classmethod
    def fresh(cls, config: TrainConfig, base: Path | None = None) -> Self:
        """All as `config` and its seed say, on the CPU; theta0 from the weight file `base`."""
        with seeded(config.seed):
            module = fresh_target(config.target, config.activation, config.dataset)
            layout = WeightLayout.of(module)
            start = module if base is None else load_base(base, config)
            theta0 = layout.flatten(start.state_dict())
            generator = build_generator(config, layout, theta0, pretrain=base is not None)
            average = averaged(generator, config.ema_decay)
            shape = image_shape(config.dataset)
            value = build_value_network(
                config.value_network, module, shape, len(MEASURES), config.value_members
            )
        return cls(module, generator, average, value)

    def to(self, device: torch.device) -> Self:
        """Moves all of them."""
        for network in (self.module, self.generator, self.averaged, self.value):
            network.to(device)
        return self

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        for name in ("generator", "averaged", "value"):
            getattr(self, name).load_state_dict(state[name])


def load_base(path: Path, config: TrainConfig) -> nn.Module:
    """The network in `path`; `InputError` unless it is one of this run's target."""
    network, said = load_network(path), read_metadata(path)
    layout = WeightLayout.of(fresh_target(config.target, config.activation, config.dataset))
    wanted = describe(config.target, config.activation, config.dataset, layout)
    if any(said[name] != wanted[name] for name in ("layout", "activation")):
        raise InputError(
            f"--base: {path} holds another network than {config.target} with {config.activation} "
            f"for {config.dataset}"
        )
    return network


class Training:
    """Everything that a step changes, and the step itself.

    One CPU generator, `rng`, decides everything random; with the tensors here it is the whole
    state, so a run continued from `state_dict` computes what it would have without the stop.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        device: torch.device,
        base: Path | None = None,
    ):
        self.config, self.dataset, self.device = config, dataset, device
        self.rng = torch.Generator().manual_seed(config.seed)
        self.step = 0
        self.attack_steps = config.attack_steps
        networks = Networks.fresh(config, base).to(device)
        self.module, self.generator = networks.module, networks.generator
        self.averaged, self.value = networks.averaged, networks.value
        self.layout = WeightLayout.of(self.module)
        self.scales = self.layout.scales().to(device)
        self.calibration_images = dataset.calibration_images(STEP_CALIBRATION_IMAGES)
        self.network = Population.of([self.module])  # made once: a GPU steps in less time
        self.learners: Population | None = None  # made of the first weights
        self.answers = RecordedModel(self._answers)
        self.gradients: tuple[Sequence[Measure], Recorded] | None = None  # of what was asked last
        self.replay = Replay(config.replay)
        self.optimizer = torch.optim.Adam(
            self.generator.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.value_optimizer = torch.optim.Adam(
            self.value.parameters(),
            lr=config.value_learning_rate,
            weight_decay=config.value_weight_decay,
        )

    def advance(self) -> dict[str, float]:
        """One step of the generator, now and then with a look at whether the measurer is right.

        Returns what was measured on the way; `RunError` when the training has diverged.
        """
        watch_every = max(1, round(self.config.steps * WATCHED_SHARE))
        try:
            figures = self.take_step()
            # The end of a run is measured at length by its report.
            looks = self.config.surprise < 1 and self.step % watch_every == 0
            if looks and self.step < self.config.steps:
                figures |= self.watch()
                self.raise_attack_steps(figures["watched/gap"])
        except attacks.AttackError as error:  # the generated networks' logits are no numbers
            raise RunError(f"training diverged at step {self.step}: {error}") from error
        return figures

    def take_step(self) -> dict[str, float]:
        """One step of the generator; what it measured on the way."""
        config, ramp = self.config, self.ramp()
        from_base = config.base is not None
        z = self.generator.latent.draw(config.population, self.rng, ramp if from_base else 1.0)
        beta = draw_beta(config.population, config.beta_range, self.rng)
        theta = self.generator(z.to(self.device), beta.to(self.device))
        if not theta.isfinite().all():
            raise RunError(f"training diverged at step {self.step}: the generated weights are NaN")

        images, labels = self.dataset.train.draw(config.batch_size, self.rng)
        images = self.dataset.augmented(images, self.rng)
        # Where V is fitted to the same images as well, these count as measured.
        direct = config.objective == "direct"
        if direct:
            population = RecordedPopulation(self.learning(theta.detach()), self.answers)
        else:
            population = self.population(theta.detach())
        batch = self.attacked(population, images, labels, self.adversary, to_train=direct)
        figures = {}
        if self.step % config.measurement_interval == 0:
            measured = self.population(theta.detach()) if direct else population
            figures = self.fit_value(measured, batch)

        # From scratch robustness is asked for little by little: the constant classifier, equally
        # accurate and robust, is a local optimum of the full loss.
        weights = preference_weights(beta if from_base else beta * ramp)
        if direct:
            asked = weights.any(0)  # with a beta of 1 nothing of clean images
            losses, gradient = self.gradients_of(asked.tolist())(
                theta.detach(),
                weights[:, asked].to(self.device),
                batch.labels,
                batch.images,
                batch.attacked,
            )
        else:
            learners, weights = self.learning(theta.detach()), weights.to(self.device)
            losses, gradient = objective.gradient(
                config.objective, learners, batch, weights, self.value, MEASURES
            )
        self.optimizer.zero_grad(set_to_none=True)
        theta.backward(gradient / len(theta))
        norm = nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.schedule()
        self.optimizer.step()
        self.averaged.update_parameters(self.generator)
        loss, gradient_norm = self.read(losses.mean(), norm)
        self.step += 1
        return {"loss": loss, "gradient_norm": gradient_norm, **figures}

    def learning(self, theta: Tensor) -> Population:
        """The networks of weights [P,D] as the objective sees them."""
        if self.learners is None:
            self.learners = self.networks(theta).normalized_by_batch()
        return self.learners.with_theta(theta)

    def _answers(self, images: Tensor, theta: Tensor) -> Tensor:
        with half_precision(self.device):
            return self.learning(theta)(images)

    def gradients_of(self, asked: Sequence[bool]) -> Recorded:
        """Losses and gradients by `direct`, of the measures that are asked for."""
        measures = tuple(compress(MEASURES, asked))
        if self.gradients is None or measures != self.gradients[0]:
            self.gradients = measures, Recorded(partial(self._gradients, measures))
        return self.gradients[1]

    def _gradients(
        self,
        measures: Sequence[Measure],
        theta: Tensor,
        weights: Tensor,
        labels: Tensor,
        images: Tensor,
        attacked: Tensor,
    ) -> tuple[Tensor, Tensor]:
        batch, population = Batch(images, labels, attacked), self.learning(theta)
        return objective.gradient("direct", population, batch, weights, self.value, measures)

    def read(self, loss: Tensor, norm: Tensor) -> tuple[float, float]:
        """The loss and the norm of the gradient of a step just taken, as numbers.

        `RunError` when the gradient or a network that the next checkpoint would hold has diverged.
        """
        networks = {"generator": self.generator, "value network": self.value}
        finite = [
            torch.stack([weights.isfinite().all() for weights in network.parameters()]).all()
            for network in networks.values()
        ]
        # One question: each would keep a GPU waiting.
        numbers = torch.stack([loss, norm, norm.isfinite(), *finite]).tolist()
        for name, fine in zip(("gradient", *networks), numbers[2:], strict=True):
            if not fine:
                raise RunError(f"training diverged at step {self.step}: the {name} is NaN")
        return numbers[0], numbers[1]

    def ramp(self) -> float:
        """0 -> 1 over the warm-up."""
        return self.progress(self.config.warmup)

    def progress(self, share: float) -> float:
        """0 -> 1 over that share of the steps."""
        return min(1.0, (self.step + 1) / max(1.0, share * self.config.steps))

    def threat(self, epsilon: float) -> attacks.Threat:
        """Of that radius in the end; at this step, of the share of it reached so far."""
        share = GROWS_FROM + (1 - GROWS_FROM) * self.progress(self.config.growth)
        return attacks.Threat(self.config.norm, epsilon * share)

    @property
    def measurer(self) -> attacks.Attack:
        """What attacks the images of this step that V sees and is fitted to."""
        threat = self.threat(self.config.training_threat.epsilon)
        return MEASURERS[self.config.measurer](threat, self.attack_steps)

    @property
    def adversary(self) -> attacks.Attack:
        """What attacks the images of this step that the generator learns from."""
        if self.config.objective != "direct":
            return self.measurer
        # Chosen by cross-entropy where that is descended.
        threat = self.threat(self.config.training_threat.epsilon)
        if self.attack_steps == 1 and threat.norm != "l1":
            return attacks.RandomFGSM(threat)
        return attacks.PGD(threat, steps=self.attack_steps)

    def schedule(self) -> None:
        """Sets the learning rate of this step: a short warm-up, then a cosine to zero."""
        rate = self.config.learning_rate
        if self.config.schedule == "cosine":
            progress = torch.tensor(self.step / self.config.steps)
            rate *= min(1.0, (self.step + 1) / 20) * 0.5 * float(1 + torch.cos(torch.pi * progress))
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    @torch.no_grad()
    def sample(self, count: int, seed: int) -> Population:
        """Networks of the averaged generator as it is now; the run itself goes on unchanged."""
        rng = torch.Generator().manual_seed(seed)
        z = self.generator.latent.draw(count, rng)
        beta = draw_beta(count, self.config.beta_range, rng)
        return self.population(self.averaged(z.to(self.device), beta.to(self.device)))

    def population(self, theta: Tensor) -> Population:
        """Weight vectors [P,D] as networks, batch-norm statistics recalibrated."""
        return recalibrated(self.networks(theta), self.calibration_images)

    def networks(self, theta: Tensor) -> Population:
        """The same, with the batch-norm statistics that the target has at first."""
        same = torch.zeros(len(theta), dtype=torch.long, device=self.device)
        return self.network.choose(same).with_theta(theta)

    def attacked(
        self,
        population: Population,
        images: Tensor,
        labels: Tensor,
        attack: attacks.Attack,
        to_train: bool = False,
    ) -> Batch:
        """The images with, for each network, their adversarial versions."""
        return attacked_batch(population, images, labels, attack, self.draw_seed(), to_train)

    def fit_value(self, population: Population, batch: Batch) -> dict[str, float]:
        """Measures the generated and a few perturbed networks and fits V to all in the replay."""
        images, labels = batch.images, batch.labels
        if self.config.objective == "direct":
            batch = self.attacked(population, images, labels, self.measurer)
        evidence, measured = self.measured(population, batch)
        self.replay.add(evidence, measured)
        if self.config.perturbed:
            near = self.near(population.theta[: self.config.perturbed])
            self.replay.add(
                *self.measured(near, self.attacked(near, images, labels, self.measurer))
            )
        figures = {"value_loss": self.value_steps(self.config.value_steps)}
        with torch.no_grad():
            estimated = self.value(evidence)
        for kind, found in (("measured", measured), ("estimated", estimated)):
            for name, mean in named(found.mean(0).tolist()).items():
                figures[f"{kind}/{name}"] = mean
        return figures

    def fit_value_around_start(self) -> None:
        """Pretrains V: on the base alone, or on it and perturbed copies where those are used."""
        with torch.no_grad():
            z = torch.zeros(1, self.generator.latent.size, device=self.device)
            beta = torch.tensor([self.config.beta_range[1]], device=self.device)
            theta = self.generator(z, beta)
        if self.config.perturbed:
            copies = self.near(theta.expand(16 * self.config.perturbed, -1))
            theta = torch.cat([theta, copies.theta])
        population = self.population(theta)
        images, labels = self.dataset.train.draw(self.config.batch_size, self.rng)
        batch = self.attacked(population, images, labels, self.measurer)
        self.replay.add(*self.measured(population, batch))
        self.value_steps(VALUE_PRETRAINING_STEPS)

    def near(self, theta: Tensor) -> Population:
        """Networks around weight vectors [P,D], some near, some far (log-uniform).

        What V has seen of bad networks keeps its estimates true when the generator goes astray.
        """
        least, greatest = PERTURBATIONS
        sizes = least * (greatest / least) ** torch.rand(len(theta), 1, generator=self.rng)
        noise = (sizes * torch.randn(theta.shape, generator=self.rng)).to(self.device)
        return self.population(theta + self.scales * noise)

    def value_steps(self, count: int) -> float:
        """Steps of V on batches of the replay; the last loss."""
        loss = torch.zeros(())
        for _ in range(count):
            evidence, measured = self.replay.draw(VALUE_BATCH, self.rng)
            loss = self.value.loss(evidence, measured)
            self.value_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.value_optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def measured(self, population: Population, batch: Batch) -> tuple[Tensor, Tensor]:
        """What V sees of the networks, and what they are worth [P,M] on the same images."""

        def look(job: tuple[slice, Population]) -> Tensor:
            place, piece = job
            return self.value.evidence(piece, batch.for_networks(place))

        jobs = pieces(population, batch.images)
        evidence = torch.cat(list(concurrently(look, jobs, jobs_at_once(self.device))))
        worth = [measure(population, batch) for measure in MEASURES]
        return evidence, torch.stack(worth, dim=-1)

    def draw_seed(self) -> int:
        """A seed for an attack's random starts."""
        return int(torch.randint(2**31, (), generator=self.rng))

    @torch.no_grad()
    def watch(self) -> dict[str, float]:
        """A small standard robust accuracy, on validation images: does the measurer tell the truth?

        The gap is what the measurer says of the same networks, images and threat, less the truth;
        the radius is what has been reached so far of the one judged.
        """
        population = self.sample(WATCHED_NETWORKS, self.config.seed)
        images, labels = self.dataset.val.first(WATCHED_IMAGES)
        threat, seed = self.threat(self.config.threat.epsilon), self.config.seed
        table = survivors(population, images, labels, attacks.standard(threat), seed)
        sra = float(list(table.values())[-1].float().mean())
        measurer = MEASURERS[self.config.measurer](threat, self.attack_steps)
        claimed = ROBUSTNESS(population, attacked_batch(population, images, labels, measurer, seed))
        return {
            "watched/accuracy": float(table["clean"].float().mean()),
            "watched/sra": sra,
            "watched/gap": float(claimed.mean()) - sra,
            "watched/attack_steps": self.attack_steps,
            "watched/epsilon": threat.epsilon,
        }

    def raise_attack_steps(self, gap: float) -> None:
        """Doubles the attacks' steps, up to a limit, when the measurer was found to flatter."""
        doubled = 2 * self.attack_steps
        if gap > self.config.surprise and doubled <= RAISED * self.config.attack_steps:
            self.attack_steps = doubled

    @torch.no_grad()
    def points(self) -> list[dict[str, Any]]:
        """What was measured last and what V thinks of the same networks, for the scatter."""
        evidence, measured = self.replay.last(SHOWN_NETWORKS)
        return [
            {"kind": kind, **named(row)}
            for kind, rows in (("measured", measured), ("estimated", self.value(evidence)))
            for row in rows.tolist()
        ]

    def state_dict(self) -> dict[str, Any]:
        """The whole state, for a checkpoint."""
        return {
            "step": self.step,
            "attack_steps": self.attack_steps,
            "rng": self.rng.get_state(),
            "generator": self.generator.state_dict(),
            "averaged": self.averaged.state_dict(),
            "value": self.value.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "value_optimizer": self.value_optimizer.state_dict(),
            "replay": self.replay.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.step = state["step"]
        self.attack_steps = state["attack_steps"]
        self.rng.set_state(state["rng"])
        for name in ("generator", "averaged", "value", "optimizer", "value_optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.replay.load_state_dict(state["replay"], self.device)


def prepare_base(
    config: TrainConfig, dataset: Dataset, device: torch.device, folder: Path
) -> Path | None:
    """The network to start from, if any, as a file of the run: a copy, or trained on the spot."""
    if config.base is None:
        return None
    path = folder / BASE
    if path.exists():
        return path
    if config.base not in BASE_METHODS:
        save_network(path, *read_network(Path(config.base)))
    else:
        train_baselines({path: direct_recipe(config, config.base, config.seed)}, dataset, device)
    return path


def direct_recipe(config: TrainConfig, method: str, seed: int) -> BaselineConfig:
    """How a network like those of a run is trained directly, to start from or beside it.

    `InputError` or `AttackError` where it cannot be.
    """
    return BaselineConfig(
        method=method,
        dataset=config.dataset,
        target=config.target,
        activation=config.activation,
        norm=config.norm,
        epsilon=config.epsilon,
        seed=seed,
    )


def require_base(config: TrainConfig) -> None:
    """`InputError` or `AttackError` unless there can be the network to start from, if any."""
    if config.base in BASE_METHODS:
        direct_recipe(config, config.base, config.seed)
    elif config.base is not None:
        load_base(Path(config.base), config)


def train(config: TrainConfig, dataset: Dataset, folder: Path, device: torch.device) -> Training:
    """Trains, or continues, the run in `folder` (which holds its config.json) to its last step.

    Loses at most the steps since the last checkpoint however it ends. Raises `RunError` when the
    training diverges, `KeyboardInterrupt` after saving.
    """
    saved = folder / CHECKPOINT
    if saved.exists():
        training = Training(config, dataset, device)
        checkpoint.restore(saved, training.load_state_dict)
    else:
        base = prepare_base(config, dataset, device, folder)
        training = Training(config, dataset, device, base)
        if base is not None:
            training.fit_value_around_start()
    tracker = Tracker(folder, config, training.step)
    bar = Bar("training", config.steps, training.step)
    last_saved = time.monotonic()
    try:
        with deferred_interrupt() as interrupted:
            while training.step < config.steps and not interrupted.is_set():
                step = training.step
                figures = training.advance()
                if "watched/gap" in figures:
                    tracker.figure(step, "accuracy and robustness", scatter(training.points()))
                tracker.log(step, figures)
                shown = [
                    f"{n}: {100 * v:.0f} %" for n, v in figures.items() if n.startswith("measured")
                ]
                bar.advance(figures=", ".join(shown).replace("measured/", ""))
                if time.monotonic() - last_saved > CHECKPOINT_SECONDS:
                    checkpoint.save(saved, training.state_dict())
                    last_saved = time.monotonic()
            checkpoint.save(saved, training.state_dict())
        if interrupted.is_set():
            raise KeyboardInterrupt
    finally:
        bar.close()
        tracker.close()
    return training


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[threading.Event]:
    """Within, the first Ctrl-C only sets the event that is given; a second one interrupts at once.

    Only the main thread may choose what Ctrl-C does; elsewhere, and where Ctrl-C means something
    special already, nothing changes.
    """
    asked = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or before is not signal.default_int_handler:
        yield asked
        return

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, before)
        asked.set()

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)
