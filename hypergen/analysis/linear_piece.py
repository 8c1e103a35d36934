"""Moves that keep the class of an image, where the network around it is linear.

There f(x + v) = f(x) + J v. Class i stays the first while A v <= b, with grad f_j - grad f_i for
rows of A and f_i - f_j for numbers of b. Such moves v form a convex polyhedral cone, of which the
box of images leaves a part. Outside the linear piece none of this is a claim: what is found must be
tried.

Everything is in numpy's 64-bit numbers.
"""

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize

Array = NDArray[np.float64]

MARGIN = 0.01
"""Share of each lead over another class that a constructed move leaves, or rounding would decide
between the two."""
ACCURACY, MAX_STEPS = 1e-10, 20
"""Of a least norm in a box, and of Newton's method until then."""
TOLERANCE = 1e-7
"""By how much values may be missed, relative to their size, before they count as out of reach."""
HALVINGS = 8
"""Of the way to margins that no image in the box has."""


@dataclass(frozen=True)
class LinearPiece:
    """A network near an image.

    Args:
        image: [N], pixels in [0,1].
        logits: [K], there.
        gradients: [K,N], the Jacobian J there.
    """

    image: Array
    logits: Array
    gradients: Array

    @cached_property
    def normals(self) -> Array:
        """A [K-1,N], the gradients of the other classes less that of the image's."""
        label = int(self.logits.argmax())
        return np.delete(self.gradients - self.gradients[label], label, axis=0)

    @cached_property
    def leads(self) -> Array:
        """b [K-1] >= 0, by how much the image's class leads each other one."""
        label = int(self.logits.argmax())
        return np.delete(self.logits[label] - self.logits, label)

    @property
    def box(self) -> tuple[Array, Array]:
        """The least and the greatest move of every pixel inside [0,1], [N] each."""
        return -self.image, 1 - self.image

    @property
    def null_dimension(self) -> int:
        """The dimension of the null space of J: directions that leave all logits as they are."""
        return len(self.image) - len(self._seen)

    @property
    def radius(self) -> float:
        """Of the largest ball around the image in the cone, at most the diagonal of the box."""
        return float(min([*self._sides[1], self._diagonal]))

    def null_move(self, direction: Array) -> Array:
        """The move in the null space of J and the box that goes farthest along a direction [N]."""
        return self._largest(direction, A_eq=self._seen, b_eq=np.zeros(len(self._seen)))

    def farthest(self, direction: Array) -> Array:
        """The move in the cone and the box that goes farthest along a direction [N]."""
        normals, distances = self._sides
        return self._largest(direction, A_ub=normals, b_ub=(1 - MARGIN) * distances)

    def inward(self, margins: Array) -> Array:
        """The smallest move after which the class leads the others by `margins` c [K-1].

        A^T (A A^T)^-1 (b - c). At c = 0 all classes meet; every c >= 0 is a move from there inwards
        of the cone. Pixels may leave [0,1].
        """
        return least_norm(self.normals, self.leads - margins)

    def inward_in_box(self, margins: Array) -> Array:
        """The smallest such move that stays inside [0,1].

        Where no image there has these margins, it leads half of the way to them, or a quarter, ...
        """
        for halving in range(HALVINGS):
            values = (self.leads - margins) / 2**halving
            if (found := least_norm_in_box(self.normals, values, *self.box)) is not None:
                return found
        return np.zeros_like(self.image)

    def least_energy(self) -> Array:
        """The move to the image of smallest L2 norm whose logits differ by as much as here.

        G^T (G G^T)^-1 G x - x, of the image x and the normals G: what is left of the image is what
        the network sees of it, if it is linear. Pixels may leave [0,1].
        """
        return least_norm(self.normals, self.normals @ self.image) - self.image

    def least_energy_in_box(self) -> Array:
        """The move to the image in [0,1] that has the smallest norm of those."""
        found = least_norm_in_box(self.normals, self.normals @ self.image, 0.0, 1.0)
        return np.zeros_like(self.image) if found is None else found - self.image

    @cached_property
    def ball(self) -> tuple[Array, float]:
        """The move to the centre of the largest ball in the cone, centre in the box; its radius.

        It is the Chebyshev centre, the image whose class is surest. The ball itself may stick out
        of the box, and its radius is at most the diagonal of that.
        """
        normals, distances = self._sides
        moves = np.column_stack([normals, np.ones(len(normals))])
        objective = np.append(np.zeros(len(self.image)), 1.0)
        bounds = np.vstack([np.column_stack(self.box), [0, self._diagonal]])
        found = _maximum(objective, bounds, A_ub=moves, b_ub=distances)
        return found[:-1], float(found[-1])

    @cached_property
    def _seen(self) -> Array:
        """An orthonormal basis [R,N] of the moves that J does not map to 0."""
        return row_space(self.gradients)[0]

    @cached_property
    def _sides(self) -> tuple[Array, Array]:
        """The sides of the cone: normals of length 1, and how far from the image each is."""
        lengths = np.linalg.norm(self.normals, axis=1)
        some = lengths > 0  # of a class whose logit moves with that of the image's there is none
        return self.normals[some] / lengths[some, None], self.leads[some] / lengths[some]

    @property
    def _diagonal(self) -> float:
        return sqrt(len(self.image))

    def _largest(self, direction: Array, **constraints: Array) -> Array:
        return _maximum(direction, np.column_stack(self.box), **constraints)


def _maximum(objective: Array, bounds: Array, **constraints: Any) -> Array:
    """Where a linear objective is largest, to the last bit within the bounds; 0 always may be."""
    found = linprog(-objective, bounds=bounds, **constraints).x
    return np.zeros_like(objective) if found is None else found.clip(*bounds.T)


def row_space(matrix: Array) -> tuple[Array, Array, Array]:
    """An orthonormal basis [R,N] of the rows of a matrix [M,N], and what they are in it.

    By singular values: matrix = U diag(s) basis, with U [M,R] and s [R]; R is the numerical rank.
    """
    left, sizes, right = np.linalg.svd(matrix, full_matrices=False)
    rank = int((sizes > np.finfo(float).eps * max(matrix.shape) * sizes[0]).sum())
    return right[:rank], left[:, :rank], sizes[:rank]


def least_norm(matrix: Array, values: Array) -> Array:
    """The vector [N] of smallest L2 norm that a matrix G [M,N] maps to values [M].

    G^T (G G^T)^-1 values; where G has not full rank, the least-squares solution of smallest norm.
    """
    basis, left, sizes = row_space(matrix)
    return (left.T @ values / sizes) @ basis


def least_norm_in_box(matrix: Array, values: Array, lower: Any, upper: Any) -> Array | None:
    """As `least_norm`, of the vectors with every number between `lower` and `upper`.

    It is that of other values with each number moved into its interval. Which values these are is a
    smooth convex problem in as many numbers as the matrix has rows, the dual; Newton's method takes
    a few steps. lower, upper: [N], or one for all. None: no vector in the box has these values.
    """
    basis, left, sizes = row_space(matrix)
    wanted = left.T @ values / sizes
    if not len(basis):
        return np.zeros(matrix.shape[1]).clip(lower, upper)

    def dual(weights: Array) -> tuple[float, Array]:
        free = weights @ basis
        moved = free.clip(lower, upper)
        return float(moved @ (free - moved / 2) - weights @ wanted), basis @ moved - wanted

    def curvature(weights: Array) -> Array:
        free = weights @ basis
        inside = basis[:, (lower < free) & (free < upper)]
        return inside @ inside.T

    options = {"gtol": ACCURACY, "maxiter": MAX_STEPS}
    solved = minimize(dual, wanted, jac=True, hess=curvature, method="trust-exact", options=options)
    moved = (solved.x @ basis).clip(lower, upper)
    missed = np.linalg.norm(basis @ moved - wanted)
    return moved if missed <= TOLERANCE * max(1.0, float(np.linalg.norm(wanted))) else None
