"""The border between two classes: the point of it near an image, and how it is curved there.

The border between an image's own class i and another class j is where F = f_j - f_i, the difference
of their logits, is 0. Its principal curvatures are the eigenvalues of P H P / |grad F| in the plane
that touches it, with H the Hessian of F and P = I - n n^T, n the unit normal (Fawzi,
Moosavi-Dezfooli, Frossard, Soatto 2017, "Classification regions of deep neural networks").

They are positive where the region of the own class is convex: the border of a ball of radius r,
seen from within, has 1 / r everywhere. Where the other class bulges towards the image, they are
negative. The unit is 1 over a Euclidean distance between images.

Networks of piecewise-linear layers have a Hessian of 0 almost everywhere and yet a border that
turns, at its kinks. So second derivatives are differences over a step that is given, of about the
distance to the border: what is told is how the border turns over that distance. For a network
without kinks the error is of the order of the step squared; for a quadratic one there is none. The
points at the ends of a step may lie outside [0, 1].
"""

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks import DeepFool, Model, PerNetworkRNG, Threat, differentiate, evaluate
from attacks.losses import targeted_margin, wrong_classes

BISECTIONS = 40
CANDIDATES = 5
"""The likeliest classes of an image: between its own and these DeepFool looks for the border."""
TOLERANCE = 0.1
"""Relative, of eigenvalues: kinks leave more doubt than that, and curvature is measured after."""


@dataclass(frozen=True)
class Border:
    """F = f_other - f_own near points, whether these lie on the border itself or beside it.

    model: P networks; points: [P,B,C,H,W]; own, other: int64 [P,B]; value, gradient: F, [P,B], and
    its gradient, [P,B,C,H,W], at the points.
    """

    model: Model
    points: Tensor
    own: Tensor
    other: Tensor
    value: Tensor
    gradient: Tensor

    @classmethod
    def between(cls, model: Model, points: Tensor, own: Tensor, other: Tensor) -> "Border":
        """The border between two classes [P,B] each, near points [P,B,C,H,W]."""
        loss = partial(targeted_margin, labels=own, targets=other)
        _, value, gradient = differentiate(model, points, loss)
        return cls(model, points, own, other, value, gradient)

    @classmethod
    def to_runner_up(cls, model: Model, points: Tensor) -> "Border":
        """That between the two likeliest classes of each point [P,B,C,H,W]."""
        logits = evaluate(model, points)
        own = logits.argmax(-1)
        return cls.between(model, points, own, wrong_classes(logits, own)[..., 0])

    def at(self, index: int) -> "Border":
        """Near one of the points alone, for P = 1."""
        one = slice(index, index + 1)
        own, other, value = (part[:, one] for part in (self.own, self.other, self.value))
        return Border(self.model, self.points[:, one], own, other, value, self.gradient[:, one])

    def ends(self, move: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The points moved there and back, [P,2B,C,H,W], and the classes of these, [P,2B] each."""
        points = torch.cat([self.points + move, self.points - move], 1)
        return points, self.own.repeat(1, 2), self.other.repeat(1, 2)

    @property
    def steepness(self) -> Tensor:
        """|grad F|, [P,B]; infinite where F is flat, which makes curvatures 0 there."""
        length = self.gradient.flatten(-3).norm(dim=-1)
        return length.masked_fill(length == 0, torch.inf)

    def tangent(self, directions: Tensor) -> Tensor:
        """Directions [P,B,C,H,W] less their part along the normal, of length 1."""
        normal = (self.gradient / self.steepness[..., None, None, None]).flatten(-3)
        flat = directions.to(normal).flatten(-3)
        flat = flat - torch.linalg.vecdot(flat, normal)[..., None] * normal
        return F.normalize(flat, dim=-1).view_as(directions)

    def curvature(self, directions: Tensor, step: float) -> Tensor:
        """Along each of the directions [P,B,C,H,W], brought to the tangent plane; [P,B].

        With u the tangent of length 1, it is (F(x + h u) + F(x - h u) - 2 F(x)) / (h^2 |grad F|).
        """
        points, own, other = self.ends(step * self.tangent(directions))
        ends = targeted_margin(evaluate(self.model, points), own, other)
        forth, back = ends.chunk(2, 1)
        return (forth + back - 2 * self.value) / (step**2 * self.steepness)

    def mean_curvature(self, step: float, directions: int, rng: PerNetworkRNG) -> Tensor:
        """The mean of so many random directions, [P,B]: on average that of the principal ones."""
        drawn = (rng.normal(*self.points.shape[1:]) for _ in range(directions))
        return torch.stack([self.curvature(each, step) for each in drawn]).mean(0)

    def greatest(self, step: float, count: int, rng: PerNetworkRNG) -> Tensor:
        """The principal curvatures of greatest size at a single point, P = B = 1: ascending [n].

        Lanczos' method finds their directions from P (grad F(x + h z) - grad F(x - h z)) / 2h for
        H z; what is returned is the curvature along these. n is `count`, or fewer for images of
        hardly more pixels, or where some are not found.
        """
        from scipy.sparse.linalg import (  # here, for it is slow to load
            ArpackNoConvergence,
            LinearOperator,
            eigsh,
        )

        gradient, size = self.gradient, self.points.numel()
        normal = F.normalize(gradient.flatten(), dim=0)

        def projected(vector: Tensor) -> Tensor:
            return vector - (vector @ normal) * normal

        def times(vector: np.ndarray) -> np.ndarray:
            move = step * projected(torch.from_numpy(vector.ravel()).to(normal)).view_as(gradient)
            forth, back = self.between(self.model, *self.ends(move)).gradient.chunk(2, 1)
            return projected((forth - back).flatten() / (2 * step)).double().cpu().numpy()

        count = min(count, size - 2)
        start = rng.normal(size)[0].double().cpu().numpy()
        if not times(start).any():  # H is 0, which ARPACK refuses
            return gradient.new_zeros(count)
        operator = LinearOperator((size, size), matvec=times, dtype=np.float64)  # pyright: ignore
        try:
            _, found = eigsh(operator, count, v0=start, tol=TOLERANCE)  # pyright: ignore
        except ArpackNoConvergence as error:
            found = error.eigenvectors
        directions = torch.from_numpy(found.T.copy()).reshape(found.shape[1], *gradient.shape)
        along = [self.curvature(each, step).flatten() for each in directions]
        return torch.cat([gradient.new_zeros(0), *along]).sort().values


def nearest(model: Model, images: Tensor) -> tuple[Border, Tensor, Tensor]:
    """The point of the border near each image [P,B,C,H,W], its distance [P,B], and a point beyond.

    DeepFool in l2 leaves the class that the network sees, by the nearest border as far as it can
    tell, for the point beyond [P,B,C,H,W]; bisection finds the border on the straight line there.
    Where DeepFool does not leave the class, the distance is infinite, and the rest means nothing.
    """
    own = evaluate(model, images).argmax(-1)
    anywhere = Threat("l2", math.sqrt(images[0, 0].numel()))
    beyond = DeepFool(anywhere, candidates=CANDIDATES)(model, images, own, [0] * len(images)).images
    inside, outside = images, beyond
    for _ in range(BISECTIONS):
        middle = (inside + outside) / 2
        same = (evaluate(model, middle).argmax(-1) == own)[..., None, None, None]
        inside, outside = torch.where(same, middle, inside), torch.where(same, outside, middle)
    other = evaluate(model, outside).argmax(-1)
    distance = anywhere.distance(outside, images).masked_fill(other == own, torch.inf)
    return Border.between(model, outside, own, other), distance, beyond
