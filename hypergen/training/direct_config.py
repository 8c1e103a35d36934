"""The settings of a direct training, and what they come to on a data set."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import attacks
import targets
from hypergen.config import Activation, DataConfig, Epsilon, Method, Target, threat_on
from hypergen.data import Dataset, DatasetInfo
from hypergen.errors import InputError
from hypergen.settings import COUNT, RATE, SEED, SHARE, SIZE, Norm, Range, Settings
from hypergen.training.recipes import PEAK_AT, PGD_STEPS, Recipe, recipe_for
from targets.kwta import KWTA


@dataclass(frozen=True)
class BaselineConfig(Settings):
    """One network trained directly on its own weights."""

    method: Method = "fbf"
    """standard (clean images), fbf (one random-start FGSM step) or pgd (7 steps)"""
    data: DataConfig = field(default_factory=DataConfig)
    target: Target = "small-lenet5"
    """architecture"""
    activation: Activation = "relu"
    """its activation function"""
    pretrained: bool = False
    """start from torchvision's weights for ImageNet, downloaded: alexnet and resnet18"""
    beta: Annotated[float, SHARE] = 1.0
    """weight of the attacked images in the loss; what is left to 1 is that of the clean ones"""
    norm: Norm = "linf"
    """norm of the threat trained against; l1 by pgd alone"""
    epsilon: Epsilon = None
    """its radius, for pixels in [0,1], such as 0.1 or 8/255; by default the data set's usual one in
    linf"""
    epsilon_factor: Annotated[float | None, SIZE] = None
    """radius trained against in the end, relative to epsilon; by default 1.15, on colour images
    1"""
    epochs: Annotated[int | None, COUNT] = None
    """passes over the training images; by default 10, digits 40, colour images 30"""
    learning_rate: Annotated[float | None, RATE] = None
    """the highest, reached at 40 % of the training; by default 0.005 (Adam), colour images 0.2
    (SGD; of vgg 0.08 to 2 by the activation)"""
    share_start: Annotated[float | None, SHARE] = None
    """share that k-WTA keeps in the first epoch; it falls evenly, epoch by epoch, to the
    activation's own over the first half of the training, as in Xiao et al. 2020 from 0.2; whatever
    is trained at, the activation's own is what is validated and written; by default no other"""
    ema_decay: Annotated[float, Range(0, 1, below=True)] = 0.0
    """of the weights' moving average, which then is what is validated and written; 0 for none"""
    seed: Annotated[int, SEED] = 0
    """of the initial weights, the order of images, dropout and the attack's starts"""

    def require(self) -> None:
        if self.method == "standard" and (self.beta, self.epsilon_factor) != (1.0, None):
            raise InputError("`beta` and `epsilon_factor` are of attacked images: not of standard")
        if self.share_start is not None:
            self._require_share(self.share_start)
        threat = self.threat
        if self.method == "fbf":
            attacks.RandomFGSM(threat)  # refuses l1

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
        layer = targets.make_activation(self.activation, 1)
        return layer.share if isinstance(layer, KWTA) else None

    @property
    def threat(self) -> attacks.Threat:
        """What the network is to withstand."""
        return threat_on(self.data.name, self.norm, self.epsilon)


@dataclass(frozen=True)
class DirectPlan:
    """What the settings come to on a data set: all defaults filled in."""

    config: BaselineConfig
    recipe: Recipe

    @classmethod
    def of(cls, config: BaselineConfig, info: DatasetInfo) -> "DirectPlan":
        """The plan by the recipe for such images."""
        return cls(config, recipe_for(info, config.target, config.activation))

    @property
    def epochs(self) -> int:
        """Passes over the training images."""
        return self.config.epochs or self.recipe.epochs

    @property
    def learning_rate(self) -> float:
        """The highest learning rate."""
        return self.config.learning_rate or self.recipe.learning_rate

    @property
    def radius(self) -> float:
        """What is trained against in the end, in units of the threat's norm."""
        return self.recipe.radius(self.config.threat.epsilon, self.config.epsilon_factor)

    def steps(self, dataset: Dataset) -> int:
        """Steps of the weights on the data set's training images."""
        return self.epochs * -(-len(dataset.train) // self.recipe.batch_size)

    def cost(self, dataset: Dataset) -> float:
        """About what the training costs, in forward passes; a gradient costs three."""
        attack = self.training_attack(1.0)
        gradients = 1 + (0 if attack is None else attack.steps)
        return 3.0 * gradients * self.epochs * len(dataset.train)

    def share(self, epoch: int) -> float | None:
        """What k-WTA keeps while epoch 0, 1, ... is trained; None without a schedule of its own."""
        start, final = self.config.share_start, self.config.final_share
        if start is None or final is None:
            return None
        return final + (start - final) * max(0.0, 1 - 2 * epoch / self.epochs)

    def training_attack(self, progress: float) -> attacks.PGD | None:
        """What makes the images trained on, at `progress` in (0,1]; None for clean images."""
        if self.config.method == "standard" or self.radius == 0 or self.config.beta == 0:
            return None
        grown = min(1.0, progress / PEAK_AT) if self.recipe.growing else 1.0
        threat = attacks.Threat(self.config.norm, self.radius * grown)
        if self.config.method == "fbf":
            return self.recipe.fbf(threat)
        return attacks.PGD(threat, PGD_STEPS)

    def metadata(self) -> dict[str, Any]:
        """What a weight file says of the training that made it."""
        config = self.config
        return {
            "method": config.method,
            "epochs": self.epochs,
            "epsilon_trained": self.radius if self.training_attack(1.0) else 0.0,
            "learning_rate": self.learning_rate,
            "beta": 0.0 if config.method == "standard" else config.beta,
            "share_start": config.share_start,
            "ema_decay": config.ema_decay,
            "pretrained": config.pretrained,
            "seed": config.seed,
            "epsilon": config.threat.epsilon,
            "norm": config.norm,
        }
