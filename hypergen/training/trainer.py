"""The training step: generate, measure, fit the value network, improve the generator."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import attacks
from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import RunError
from hypergen.measures import Batch, build_measures, prepare_batch
from hypergen.models.bundle import ModelBundle
from hypergen.models.generator import PRETRAINING_STEPS as GENERATOR_PRETRAINING_STEPS
from hypergen.models.latent import draw_preferences, preference_weights
from hypergen.runtime.batching import recalibrated
from hypergen.runtime.exchange import gathered, share
from hypergen.runtime.precision import Precision, chosen_precision, full_precision
from hypergen.storage.checkpoint import load_optimizer
from hypergen.training.adversary import Adversary
from hypergen.training.cost import Cost
from hypergen.training.disagreement import DisagreementControl
from hypergen.training.gap_check import CHECKED_NETWORKS, GapCheck
from hypergen.training.learner import Learner
from hypergen.training.length import with_steps
from hypergen.training.recipes import recipe_for
from hypergen.training.value_fitter import PRETRAINING_STEPS, ValueFitter, draw_seed
from targets import Population, WeightLayout

CALIBRATION_IMAGES = 256
"""Training images that batch-norm statistics are measured on in a step; more would take most of it.
What is drawn from a run gets more."""
CHECK_INTERVAL = 0.2
"""How often, as a share of the run, what training is told is checked."""


class Trainer:
    """Everything that a step changes, and the step itself.

    One CPU generator, `rng`, decides everything random; with the tensors here it is the whole
    state, so a run continued from `state_dict` computes what it would have without the stop.

    Args:
        config: what is trained, and how.
        dataset: its images, on `device`.
        base: the network to start from, if any.
        pretraining_steps: of a published generator that is fitted to the base.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        device: torch.device,
        base: nn.Module | None = None,
        pretraining_steps: int = GENERATOR_PRETRAINING_STEPS,
    ):
        config = with_steps(config, dataset)
        self.config, self.dataset, self.device = config, dataset, device
        self.rng = torch.Generator().manual_seed(config.optimisation.seed)
        self.step, self.cost = 0, Cost(config, device)
        recipe = recipe_for(dataset.info, config.target, config.activation)
        asked = config.optimisation.precision
        self.precision: Precision = chosen_precision(asked, device, recipe.gains_by_bf16)
        self.adversary = Adversary(config, dataset.info, self.precision)
        self.models = ModelBundle.fresh(config, dataset.info, base, pretraining_steps).to(device)
        self.generator, self.ema = self.models.generator, self.models.ema
        self.calibration_images = dataset.calibration_images(CALIBRATION_IMAGES)
        self.measures = list(build_measures(config))
        self.gap_check = GapCheck(self.adversary, self.measures)
        self.control = DisagreementControl(config, self.models, dataset.val, self.population)
        self.learner = Learner(
            *(config.objective.kind, self.measures, self.models.target, self.models.value),
            self.precision,
        )
        self.optimizer = torch.optim.Adam(
            self.generator.parameters(),
            lr=config.optimisation.learning_rate,
            weight_decay=config.optimisation.weight_decay,
        )
        scales = WeightLayout.of(self.models.target).scales().to(device)
        self.value_fitter = ValueFitter(
            *(config.value_network, self.models.value, self.measures),
            *(scales, self.population, self.rng),
        )

    def advance(self) -> dict[str, float]:
        """One step of the generator, now and then with a check of what it was told.

        Returns what was measured on the way; `RunError` when the training has diverged.
        """
        steps = self.config.optimisation.length
        interval = max(1, round(steps * CHECK_INTERVAL))
        try:
            metrics = self.take_step()
            if self.control.is_due(self.step) and self.warmup == 1:
                metrics |= self.control.steer(self.step)
            # The end of a run is measured at length by its report.
            due = self.step % interval == 0 and self.step < steps
            if due and self.config.adversary.max_robustness_gap < 1:
                metrics |= self.check_measures()
                self.gap_check.raise_budgets(metrics)
        except attacks.AttackError as error:  # the generated networks' logits are no numbers
            raise RunError(f"training diverged at step {self.step}: {error}") from error
        return metrics

    @full_precision()
    def take_step(self) -> dict[str, float]:
        """One step of the generator; what it measured on the way."""
        self.optimizer.zero_grad(set_to_none=True)  # at first, to measure without the last ones
        theta, preference = self.generate()
        count = len(theta)
        mine = share(count)  # of the networks; with one process, all
        own = theta.detach()[mine]
        images, labels = self.dataset.train.draw(self.config.optimisation.batch_size, self.rng)
        images = self.dataset.augmented(images, self.rng)
        # Where V is fitted to the same images as well, these count as measured.
        direct = self.config.objective.kind == "direct"
        population = self.learner.to_attack(own) if direct else self.population(own)
        adversary = self.adversary.asked(preference)
        stage = adversary.training_stage(self.epsilon_progress, draw_seed(self.rng))
        batch = prepare_batch(self.measures, population, images, labels, stage)
        metrics, weights = {}, self.weights(preference)
        fits = self.step % self.config.measurement_interval == 0
        if fits:
            metrics = self.fit_value(theta.detach(), population, batch, adversary)
        losses, gradient = self.learner.gradient(own, weights[mine], batch)
        self.cost.add_step(self.measures, weights, len(images), self.adversary.attack_steps, fits)
        norm = self.descend(theta, gathered(gradient, count))
        loss, gradient_norm = self.read(gathered(losses, count).mean(), norm)
        self.step += 1
        return {"loss": loss, "gradient_norm": gradient_norm, **metrics}

    def generate(self) -> tuple[Tensor, Tensor]:
        """Fresh weights [P,D], with their graph, and their preferences on the CPU."""
        count = self.config.optimisation.population
        spread = self.warmup if self.from_base else 1.0
        z = self.models.latent.draw(count, self.rng, spread)
        # One radius for all of them: their images are attacked together.
        different = 1 if self.config.knob.name == "radius" else count
        preference = draw_preferences(different, self.config, self.rng)
        preference = preference.expand(count, *preference.shape[1:])
        theta = self.generator(z.to(self.device), preference.to(self.device))
        if not theta.isfinite().all():
            raise RunError(f"training diverged at step {self.step}: the generated weights are NaN")
        return theta, preference

    def fit_value(
        self, theta: Tensor, population: Population, batch: Batch, adversary: Adversary
    ) -> dict[str, float]:
        """Measures the networks of this step and fits V; what was measured.

        theta: [P,D], of all networks; population and batch: of this rank's.
        """
        stage = partial(adversary.value_stage, self.epsilon_progress)
        if self.config.objective.kind == "direct":  # batch norm had the batch's statistics
            population = self.population(population.theta)
            batch = self.value_fitter.prepare(population, batch.images, batch.labels, stage)
        return self.value_fitter.fit(theta, population, batch, stage)

    def weights(self, preference: Tensor) -> Tensor:
        """Preferences -> [P,M], what each measure weighs in this step's loss."""
        weights = preference_weights(preference, self.config)
        if self.from_base:
            return weights
        # From scratch all but accuracy is asked for little by little: the constant classifier,
        # equally accurate and robust, is a local optimum of the full loss.
        others = weights[:, 1:] * self.warmup
        return torch.cat([1 - others.sum(1, keepdim=True), others], dim=1)

    def descend(self, theta: Tensor, gradient: Tensor) -> Tensor:
        """Steps the generator down the gradient at its weights [P,D]; the gradient's norm.

        The gradient is divided in place: of a large target it takes hundreds of megabytes.
        """
        theta.backward(gradient.div_(len(theta)))
        norm = nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        self.optimizer.step()
        self.ema.update_parameters(self.generator)
        return norm

    def read(self, loss: Tensor, norm: Tensor) -> tuple[float, float]:
        """The loss and the norm of the gradient of a step just taken, as numbers.

        `RunError` when the gradient or a network that the next checkpoint would hold has diverged.
        """
        networks = {"generator": self.generator, "value network": self.models.value}
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

    @property
    def from_base(self) -> bool:
        """Whether the run starts from a trained network."""
        return self.config.start is not None

    @property
    def warmup(self) -> float:
        """Rises from 0 to 1 over the warm-up of beta, or of the spread of z."""
        return self.progress(self.config.objective.warmup)

    @property
    def epsilon_progress(self) -> float:
        """Rises from 0 to 1 over the warm-up of epsilon."""
        return self.progress(self.config.adversary.epsilon_warmup)

    def progress(self, share: float) -> float:
        """Rises from 0 to 1 over that share of the steps."""
        return min(1.0, (self.step + 1) / max(1.0, share * self.config.optimisation.length))

    @property
    def learning_rate(self) -> float:
        """That of this step: a short warm-up, then a cosine to zero; or constant."""
        settings = self.config.optimisation
        rate = settings.learning_rate
        if settings.schedule == "cosine":
            progress = torch.tensor(self.step / settings.length)
            rate *= min(1.0, (self.step + 1) / 20) * 0.5 * float(1 + torch.cos(torch.pi * progress))
        return rate

    @full_precision()
    @torch.no_grad()
    def sample(self, count: int, seed: int) -> Population:
        """Networks of the averaged generator as it is now; the run itself goes on unchanged."""
        rng = torch.Generator().manual_seed(seed)
        z = self.models.latent.draw(count, rng)
        preference = draw_preferences(count, self.config, rng)
        return self.population(self.ema(z.to(self.device), preference.to(self.device)))

    def population(self, theta: Tensor) -> Population:
        """Weight vectors [P,D] as networks, batch-norm statistics recalibrated."""
        return recalibrated(self.learner.networks(theta), self.calibration_images)

    @full_precision()
    def pretrain_value(self, steps: int = PRETRAINING_STEPS) -> None:
        """Fits V to the base alone, or to it and perturbed copies where those are used."""
        with torch.no_grad():
            z = torch.zeros(1, self.models.latent.size, device=self.device)
            if self.config.objective.has_many_preferences:
                preference = draw_preferences(1, self.config, self.rng)
            else:
                preference = torch.tensor([self.config.knob.given_range[1]])
            theta = self.generator(z, preference.to(self.device))
        count = 16 * self.config.value_network.num_perturbed
        if count:
            copies = self.value_fitter.perturb_weights(theta.expand(count, -1))
            theta = torch.cat([theta, copies])
        images, labels = self.dataset.train.draw(self.config.optimisation.batch_size, self.rng)
        with self.cost.timed():
            stage = partial(self.adversary.value_stage, self.epsilon_progress)
            self.value_fitter.pretrain(theta, images, labels, stage, steps)
        self.cost.add_attacks(self.measures, len(theta) * len(images), self.adversary.attack_steps)

    def check_measures(self) -> dict[str, float]:
        """What training is told of samples, against longer measurements (see `gap_check`)."""
        seed = self.config.optimisation.seed
        population = self.sample(CHECKED_NETWORKS, seed)
        return self.gap_check(
            *(population, self.models.value, self.dataset.val, self.epsilon_progress, seed)
        )

    def state_dict(self) -> dict[str, Any]:
        """The whole state, for a checkpoint."""
        return {
            "step": self.step,
            **self.cost.state_dict(),
            "attack_steps": self.adversary.attack_steps,
            "doublings": dict(self.gap_check.doublings),
            **self.control.state_dict(),
            "rng": self.rng.get_state(),
            "generator": self.generator.state_dict(),
            "ema": self.ema.state_dict(),
            "value": self.models.value.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "value_fitter": self.value_fitter.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues where `state_dict` was taken."""
        self.step = state["step"]
        self.cost.load_state_dict(state)
        self.adversary.attack_steps = state["attack_steps"]
        self.gap_check.restore(state["doublings"])  # older checkpoints have none
        self.rng.set_state(state["rng"])
        self.models.load_state_dict(state)
        load_optimizer(self.optimizer, state["optimizer"])
        self.value_fitter.load_state_dict(state["value_fitter"], self.device)
