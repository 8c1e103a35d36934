"""The settings of a direct training, and what they come to on a data set."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import attacks
import targets
from hypergen.config import Activation, DataConfig, Epsilon, LipschitzBound, Target
from hypergen.data import DatasetInfo
from hypergen.data.threats import threat_on
from hypergen.errors import InputError
from hypergen.measures.norms import parse_norms
from hypergen.runtime.rng import seeded
from hypergen.settings import COUNT, RATE, SEED, SHARE, SIZE, Norm, Range, Settings
from hypergen.training.interval_bounds import BOUNDS_WEIGHT, IntervalBounds
from hypergen.training.recipes import INTERVALS, PGD_STEPS, Recipe, recipe_for
from targets.kwta import KWTA

Method = Literal["standard", "fbf", "n-fgsm", "pgd", "trades", "ibp"]
"""How a network is trained directly against one threat, or none: also the base of a run."""
TrainingAttack = (
    attacks.PGD
    | attacks.MSD
    | attacks.NFGSM
    | attacks.TRADES
    | tuple[attacks.PGD, ...]
    | IntervalBounds
)
"""What makes the images trained on; of several the mean of their losses is descended. Or bounds of
what any attack could do."""


@dataclass(frozen=True)
class BaselineConfig(Settings):
    """One network trained directly on its own weights."""

    method: Literal[Method, "avg", "msd"] = "fbf"
    """standard (clean images), fbf (one random-start FGSM step), n-fgsm (one step from wider noise,
    not cut back), pgd (7 steps), trades (clean images, and 10 steps away from their answers) or ibp
    (interval bounds of what any attack could do, for networks that can be certified); in several
    norms avg (the mean loss of pgd in each) or msd (7 steps, each in the norm that hurts most)"""
    data: DataConfig = field(default_factory=DataConfig)
    target: Target = "small-lenet5"
    """architecture"""
    activation: Activation = "relu"
    """its activation function"""
    pretrained: bool = False
    """start from torchvision's weights for ImageNet, downloaded: alexnet and resnet18"""
    beta: Annotated[float, SHARE] = 1.0
    """weight of the attacked images in the loss; what is left to 1 is that of the clean ones"""
    trades_weight: Annotated[float, SIZE] = 6.0
    """of trades: weight of the divergence of answers, beside 1 of the clean images' loss"""
    norm: Norm = "linf"
    """norm of the threat trained against; l1 not by fbf and n-fgsm, linf alone by ibp"""
    epsilon: Epsilon = None
    """its radius, for pixels in [0,1], such as 0.1 or 8/255; by default the data set's usual one in
    linf"""
    norms: str | None = None
    """threats trained against by avg and msd, instead of `norm` and `epsilon`: norms with their
    radii, such as linf=0.3,l2=1.5,l1=10; the epoch that does best against all at once is kept"""
    epsilon_factor: Annotated[float | None, SIZE] = None
    """radius trained against in the end, relative to epsilon; by default 1.15, on colour images 1,
    but 1.15 by ibp"""
    epochs: Annotated[int | None, COUNT] = None
    """passes over the training images; by default 10, colour images with batch norm (or vgg) 30,
    ibp 40, and on few images as many as make 480 steps, or 2,400 by ibp"""
    learning_rate: Annotated[float | None, RATE] = None
    """the highest, reached at 40 % of the training, by ibp at once; by default 0.005 (Adam), of ibp
    0.001, on colour images with batch norm 0.2 (SGD; of vgg 0.08 to 2 by the activation)"""
    share_start: Annotated[float | None, SHARE] = None
    """share that k-WTA keeps in the first epoch; it falls evenly, epoch by epoch, to the
    activation's own over the first half of the training, as in Xiao et al. 2020 from 0.2; whatever
    is trained at, the activation's own is what is validated and written; by default no other"""
    ema_decay: Annotated[float | None, Range(0, 1, below=True)] = None
    """of the weights' moving average, which then is what is validated and written; 0 for none; by
    default 0, on colour images 0.9995 but by ibp"""
    label_smoothing: Annotated[float, Range(0, 1, below=True)] = 0.0
    """share of each label that is spread evenly over all classes, in the loss of the weights"""
    awp: Annotated[float, SIZE] = 0.0
    """adversarial weight perturbation (Wu et al. 2020): how far each layer's weights are moved up
    the loss, relative to their norm, before the gradient is taken; published with 0.005"""
    lipschitz_bound: LipschitzBound = None
    """divide the weights of every linear layer and convolution, after each step, so that its
    spectral norm, as an operator on its real input, is at most this; with 1 Parseval training
    (Cisse et al. 2017); not with batch norm; by default unbounded"""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """of multiplications in training, never in measuring: float32, bf16 (16 bits, for GPUs and CPUs
    with instructions for them), or auto, which takes bf16 where it trains such networks faster"""
    seed: Annotated[int, SEED] = 0
    """of the initial weights, the order of images, dropout and the attack's starts"""

    def require(self) -> None:
        if self.method == "standard" and (self.beta, self.epsilon_factor) != (1.0, None):
            raise InputError("`beta` and `epsilon_factor` are of attacked images: not of standard")
        if self.method == "trades" and self.beta != 1.0:
            raise InputError("trades weighs attacked images by `trades_weight`: leave out `beta`")
        if self.method == "ibp" and self.beta != 1.0:
            raise InputError("the weight of ibp's bounds is published: leave out `beta`")
        if self.method == "ibp" and self.norm != "linf":
            raise InputError(f"ibp bounds what happens in linf, not in {self.norm}")
        if self.method != "trades" and self.trades_weight != BaselineConfig.trades_weight:
            raise InputError(f"`trades_weight` is of trades: leave it out with {self.method}")
        if self.share_start is not None:
            self._require_share(self.share_start)
        self._require_norms()
        threat = self.threat
        one_step = {"fbf": attacks.RandomFGSM, "n-fgsm": attacks.NFGSM}
        if self.method in one_step:
            one_step[self.method](threat)  # refuses l1

    def _require_norms(self) -> None:
        several = self.method in ("avg", "msd")
        if several and self.norms is None:
            raise InputError(f"{self.method} needs `norms`, such as linf=0.3,l2=1.5,l1=10")
        if not several and self.norms is not None:
            raise InputError(f"`norms` is of avg and msd: leave it out with {self.method}")
        if several and (self.norm, self.epsilon) != ("linf", None):
            raise InputError("`norms` says norms and radii: leave out `norm` and `epsilon`")

    def _require_share(self, start: float) -> None:
        if self.final_share is None:
            raise InputError(f"`share_start` needs k-WTA, such as kwta-0.1, not {self.activation}")
        if start < self.final_share:
            raise InputError(
                f"`share_start` with {self.activation} must lie in [{self.final_share:g},1], "
                f"got {start}"
            )

    @property
    def final_share(self) -> float | None:
        """What k-WTA keeps in the end; None with another activation."""
        with seeded(0):  # a KAF draws its weights
            layer = targets.make_activation(self.activation, 1)
        return layer.share if isinstance(layer, KWTA) else None

    @property
    def threats(self) -> list[attacks.Threat]:
        """What the network is to withstand, one threat a norm."""
        if self.norms is None:
            return [threat_on(self.data.name, self.norm, self.epsilon)]
        return parse_norms(self.norms)

    @property
    def threat(self) -> attacks.Threat:
        """The first of these."""
        return self.threats[0]


@dataclass(frozen=True)
class DirectPlan:
    """What the settings come to on a data set: all defaults filled in.

    images: how many there are to train on.
    """

    config: BaselineConfig
    recipe: Recipe
    images: int

    @classmethod
    def of(cls, config: BaselineConfig, info: DatasetInfo, images: int) -> "DirectPlan":
        """The plan by the recipe for such images, of which there are so many to train on."""
        recipe = recipe_for(info, config.target, config.activation)
        return cls(config, INTERVALS if config.method == "ibp" else recipe, images)

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return self.config.epochs or self.recipe.epochs_on(self.images)

    @property
    def learning_rate(self) -> float:
        """The highest learning rate."""
        return self.config.learning_rate or self.recipe.learning_rate

    @property
    def ema_decay(self) -> float:
        """Of the weights' moving average; 0 for none."""
        given = self.config.ema_decay
        return self.recipe.ema_decay if given is None else given

    @property
    def radii(self) -> list[float]:
        """What is trained against in the end, in units of each threat's norm."""
        factor = self.config.epsilon_factor
        return [self.recipe.radius(threat.epsilon, factor) for threat in self.config.threats]

    @property
    def radius(self) -> float:
        """The first of these."""
        return self.radii[0]

    @property
    def steps(self) -> int:
        """Steps of the weights."""
        return self.epochs * -(-self.images // self.recipe.batch_size)

    @property
    def gradient_evaluations(self) -> int:
        """How many images' gradients the training takes, those of its attacks among them.

        Of images for the weights or for themselves, each counted once; validation takes more.
        """
        attack, beta = self.training_attack(1.0), self.config.beta
        parts = attack if isinstance(attack, tuple) else (attack,)
        steps = [0 if part is None else part.steps for part in parts]
        clean = self.config.method in ("trades", "ibp") or attack is None or beta < 1
        losses = clean + (0 if attack is None else len(parts))
        each = losses * (2 if self.config.awp else 1) + sum(steps)
        return each * self.epochs * self.images

    @property
    def cost(self) -> float:
        """About what the training costs, in forward passes; a gradient costs three."""
        attack, norms = self.training_attack(1.0), len(self.config.threats)
        further = 0.0
        if isinstance(attack, attacks.MSD):
            further = attack.steps * norms  # it looks where each step would end
        return 3.0 * self.gradient_evaluations + further * self.epochs * self.images

    def share(self, epoch: int) -> float | None:
        """What k-WTA keeps while epoch 0, 1, ... is trained; None without a schedule of its own."""
        start, final = self.config.share_start, self.config.final_share
        if start is None or final is None:
            return None
        return final + (start - final) * max(0.0, 1 - 2 * epoch / self.epochs)

    def training_attack(self, progress: float) -> TrainingAttack | None:
        """What is trained against, at `progress` in (0,1]; None for clean images alone."""
        if self.config.method == "standard" or not any(self.radii) or self.config.beta == 0:
            return None
        grown = self.recipe.growth(progress)
        threats = tuple(
            attacks.Threat(threat.norm, radius * grown)
            for threat, radius in zip(self.config.threats, self.radii, strict=True)
        )
        if self.config.method == "ibp":
            return IntervalBounds(threats[0], BOUNDS_WEIGHT * grown)
        if self.config.method == "fbf":
            return self.recipe.fbf(threats[0])
        if self.config.method == "n-fgsm":
            return attacks.NFGSM(threats[0])
        if self.config.method == "trades":
            return attacks.TRADES(threats[0])
        if self.config.method == "msd":
            return attacks.MSD(threats, PGD_STEPS)
        each = tuple(attacks.PGD(threat, PGD_STEPS) for threat in threats)
        return each if self.config.method == "avg" else each[0]

    def metadata(self) -> dict[str, Any]:
        """What a weight file says of the training that made it."""
        config = self.config
        return {
            "method": config.method,
            "epochs": self.epochs,
            "epsilon_trained": self.radius if self.training_attack(1.0) else 0.0,
            "learning_rate": self.learning_rate,
            "beta": {"standard": 0.0, "ibp": BOUNDS_WEIGHT}.get(config.method, config.beta),
            "share_start": config.share_start,
            "ema_decay": self.ema_decay,
            "label_smoothing": config.label_smoothing,
            "awp": config.awp,
            "lipschitz_bound": config.lipschitz_bound,
            "trades_weight": config.trades_weight if config.method == "trades" else None,
            "pretrained": config.pretrained,
            "seed": config.seed,
            "epsilon": config.threat.epsilon,
            "norm": config.threat.norm,
            "norms_trained": config.norms,
        }
