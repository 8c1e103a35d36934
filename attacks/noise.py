"""Random points of the threat: what every other attack must beat."""

from dataclasses import dataclass

from torch import Tensor

from attacks.base import ActiveSet, Attack, Model, PerNetworkRNG, evaluate, misclassified
from attacks.errors import require_known
from attacks.options import require_counts

KINDS = ("uniform", "gaussian")


@dataclass(frozen=True)
class Noise(Attack):
    """Noise that knows nothing of the model, the weakest attack of all (Carlini et al. 2019).

    Args:
        kind: "uniform", over the ball; or "gaussian", of standard deviation epsilon a pixel and
            pulled back into the threat: in l-inf a third of the pixels end at +-epsilon, in l2
            and l1 every point ends on the ball's surface, as far as [0, 1] lets it, in l1 with
            few pixels changed.
        draws: points tried, each on the images that are still robust.

    Raises:
        AttackError: an option out of range.
    """

    kind: str = "uniform"
    draws: int = 10

    def __post_init__(self) -> None:
        require_counts(self, "draws")
        require_known("kind of noise", self.kind, KINDS)

    @property
    def name(self) -> str:
        return f"noise-{self.kind}"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        for _ in range(self.draws):
            if not active_set:
                return
            points = active_set.pack(self._draw(active_set.all_images, rng))
            active_set.mark_adversarial(
                points, misclassified(evaluate(model, points), active_set.labels)
            )

    def _draw(self, images: Tensor, rng: PerNetworkRNG) -> Tensor:
        """One point for every image of the batch, [P,B,C,H,W]."""
        if self.kind == "uniform":
            return self.threat.random_start(images, rng)
        noise = rng.normal(*images.shape[1:]).to(images.dtype)
        return self.threat.project(images + self.threat.epsilon * noise, images)
