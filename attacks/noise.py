"""Random points of the threat: what every other attack must beat."""

from dataclasses import dataclass

from torch import Tensor

from attacks.base import Attack, Draws, Model, Survivors, evaluate, misclassified
from attacks.error import require_counts, unknown

KINDS = ("uniform", "gaussian")


@dataclass(frozen=True)
class Noise(Attack):
    """Noise that knows nothing of the model, the weakest attack of all (Carlini et al. 2019).

    Args:
        kind: "uniform", over the ball; or "gaussian", of standard deviation epsilon a pixel and
            pulled back into the threat: in l-inf a third of the pixels end at +-epsilon, in l2
            and l1 every point ends on the ball's surface, as far as [0, 1] lets it, in l1 with
            few pixels changed.
        draws: points tried, each on the images that survived those before.

    Raises:
        AttackError: an option out of range.
    """

    kind: str = "uniform"
    draws: int = 10

    def __post_init__(self) -> None:
        require_counts(draws=self.draws)
        if self.kind not in KINDS:
            raise unknown("kind of noise", self.kind, KINDS)

    @property
    def name(self) -> str:
        return f"noise-{self.kind}"

    def _run(self, model: Model, survivors: Survivors, draws: Draws) -> None:
        for _ in range(self.draws):
            if not survivors:
                return
            points = survivors.pack(self._draw(survivors.all_images, draws))
            survivors.drop(points, misclassified(evaluate(model, points), survivors.labels))

    def _draw(self, images: Tensor, draws: Draws) -> Tensor:
        """One point for every image of the batch, [P,B,C,H,W]."""
        if self.kind == "uniform":
            return self.threat.random_start(images, draws)
        noise = draws.normal(*images.shape[1:]).to(images.dtype)
        return self.threat.project(images + self.threat.epsilon * noise, images)
