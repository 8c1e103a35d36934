"""One-step attacks: cheap enough to train on, too weak to evaluate with."""

from dataclasses import dataclass, field

from torch import Tensor

from attacks.base import Model, PerNetworkRNG, differentiate
from attacks.errors import AttackError, shown
from attacks.losses import cross_entropy
from attacks.model import worst
from attacks.options import positive, require_norm
from attacks.pgd import PGD


@dataclass(frozen=True)
class FGSM(PGD):
    """One step of length epsilon from the clean image (Goodfellow et al. 2015)."""

    steps: int = field(default=1, init=False)
    step_size: float | None = field(default=None, init=False)
    restarts: int = field(default=1, init=False)
    loss: str = field(default="ce", init=False)
    random_start: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        return "fgsm"

    @property
    def size(self) -> float:
        return self.threat.epsilon


@dataclass(frozen=True)
class RandomFGSM(FGSM):
    """One step from a random point of the threat, the attack of FBF (Wong, Rice, Kolter 2020).

    Args:
        step_size: length of the step; None means 1.25 * epsilon, the paper's choice for l-inf.
            Beyond 2 * epsilon the random start no longer matters.

    Raises:
        AttackError: another norm than l-inf and l2, or a bad step size.
    """

    step_size: float | None = None
    random_start: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_norm(self.name, self.threat.norm, ["linf", "l2"])

    @property
    def name(self) -> str:
        return "random-fgsm"

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """FBF's training point [P,B,C,H,W], as the paper's code for MNIST makes it.

        Differentiated at the raw random point, which may lie outside [0, 1]; only the end is
        projected. It matters: networks trained from projected starts are far less robust. When the
        attack evaluates (`__call__`), every point visited lies inside the threat.
        """
        points, gradient = self._raw_start(model, images, labels, rng)
        return self.threat.ascend(points, gradient, self.size, images)

    def _raw_start(
        self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG
    ) -> tuple[Tensor, Tensor]:
        """The raw random points and the gradients there, both [P,B,C,H,W]."""
        points = images + self.threat.random_offset(images, rng)
        gradient = differentiate(model, points, lambda logits: cross_entropy(logits, labels))[2]
        return points, gradient

    @property
    def size(self) -> float:
        return 1.25 * self.threat.epsilon if self.step_size is None else self.step_size


@dataclass(frozen=True)
class LineSearchFGSM(RandomFGSM):
    """FBF's training point with the length of its step searched for: what hurts most counts.

    A network trained on one length learns to be right at that length and wrong before it
    ("catastrophic overfitting"); several lengths along the same gradient cost a forward pass each
    (Kim, Lee, Lee 2021, "Understanding catastrophic overfitting in single-step adversarial
    training", which looks for the shortest that suffices). When it evaluates, it is `RandomFGSM`.

    Args:
        lengths: of the steps tried, relative to epsilon.

    Raises:
        AttackError: as `RandomFGSM`, or no lengths, or one that is not above 0.
    """

    lengths: tuple[float, ...] = (0.5, 1.0, 2.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.lengths, tuple | list) or not self.lengths:
            raise AttackError(f"expected at least one length of step, got {shown(self.lengths)}")
        lengths = tuple(positive("length", length) for length in self.lengths)
        object.__setattr__(self, "lengths", lengths)

    def _perturb(self, model: Model, images: Tensor, labels: Tensor, rng: PerNetworkRNG) -> Tensor:
        """For every image the point of highest cross-entropy, [P,B,C,H,W]."""
        points, gradient = self._raw_start(model, images, labels, rng)
        ends = [
            self.threat.ascend(points, gradient, length * self.threat.epsilon, images)
            for length in self.lengths
        ]
        return worst(model, ends, labels, cross_entropy)
