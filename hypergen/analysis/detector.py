"""A detector of adversarial examples by the curvature of borders, and an attack that knows it."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from attacks import Model, PerNetworkRNG, Threat, differentiate, misclassified
from attacks.losses import margin
from hypergen.analysis.decision_border import Border


@dataclass(frozen=True)
class Detector:
    """Tells an image that was moved over a border, by the side of the border that it is on.

    Near an image a border bends towards it; seen from the other side, where an adversarial example
    is, the same border bends away (Fawzi et al. 2017). The score of an image is the mean curvature
    of F = f_j - f_i along random directions at the image itself, i and j its likeliest classes; the
    higher, the more likely it was attacked. Published is the mean over all classes j, which costs
    K - 1 times as much and tells less, for small-lenet5 on MNIST, than the runner-up's alone.

    step: over which differences are taken, a Euclidean distance; directions: how many are drawn.
    """

    step: float
    directions: int = 16

    def scores(self, model: Model, points: Tensor, rng: PerNetworkRNG) -> Tensor:
        """Of points [P,B,C,H,W]: [P,B]."""
        return Border.to_runner_up(model, points).mean_curvature(self.step, self.directions, rng)

    def slopes(self, model: Model, points: Tensor, rng: PerNetworkRNG) -> tuple[Tensor, Tensor]:
        """Scores [P,B] of points [P,B,C,H,W] and their gradients [P,B,C,H,W].

        The normal is held fast: the gradient of a difference of F needs no second derivatives,
        which vanish for piecewise-linear networks.
        """
        border = Border.to_runner_up(model, points)
        scale = self.step**2 * border.steepness * self.directions
        scores, slopes = torch.zeros_like(border.value), torch.zeros_like(points)
        for _ in range(self.directions):
            move = self.step * border.tangent(rng.normal(*points.shape[1:]))
            ends = Border.between(model, *border.ends(move))
            scores += (sum(ends.value.chunk(2, 1)) - 2 * border.value) / scale
            turn = sum(ends.gradient.chunk(2, 1)) - 2 * border.gradient
            slopes += turn / scale[..., None, None, None]
        return scores, slopes


def evade(
    model: Model,
    detector: Detector,
    threat: Threat,
    images: Tensor,
    labels: Tensor,
    adversarial: Tensor,
    rng: PerNetworkRNG,
    steps: int = 20,
) -> Tensor:
    """Adversarial examples [P,B,C,H,W] moved within the threat to as low a score as they can have.

    Selective PGD (Bryniarski et al. 2022, "Evading adversarial example detection defenses with
    orthogonal projected gradient descent"): a step down the score where the network is wrong, and
    up its margin where it is right, so that no weight of one against the other is to be chosen. The
    gradient of the score is a mean over directions that are drawn anew at every step, for the
    attack cannot know those that will judge it. Of all points visited that the network gets wrong,
    the one of lowest score is returned, lower maybe than a clean image has: the detector looks for
    high ones alone.

    images: the clean ones, [P,B,C,H,W]; labels: [P,B].
    """
    size = 2.5 * threat.epsilon / steps
    points = best = adversarial
    lowest = torch.full_like(labels, torch.inf, dtype=points.dtype)
    for step in range(steps + 1):
        scores, slopes = detector.slopes(model, points, rng)
        logits, _, rise = differentiate(model, points, partial(margin, labels=labels))
        wrong = misclassified(logits, labels)
        better = wrong & (scores < lowest)
        best = torch.where(better[..., None, None, None], points, best)
        lowest = torch.where(better, scores, lowest)
        if step < steps:
            way = torch.where(wrong[..., None, None, None], -slopes, rise)
            points = threat.ascend(points, way, size, images)
    return best


def auroc(attacked: Tensor, clean: Tensor) -> float:
    """The chance that the score of an attacked image [N] exceeds that of a clean one [M].

    Ties count one half: the area under the ROC curve.
    """
    from scipy.stats import mannwhitneyu  # here, for it is slow to load

    wins = mannwhitneyu(attacked.cpu().numpy(), clean.cpu().numpy(), method="asymptotic")
    return float(wins.statistic) / (len(attacked) * len(clean))
