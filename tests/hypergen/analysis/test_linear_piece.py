"""The cone of moves that keep a class where the network is linear."""

import numpy as np
import pytest
from scipy.optimize import minimize

from hypergen.analysis.linear_piece import MARGIN, LinearPiece, least_norm, least_norm_in_box

PIXELS, CLASSES = 30, 5


def piece(seed: int) -> LinearPiece:
    """Random gradients at a random image, some of whose pixels are black or white."""
    rng = np.random.default_rng(seed)
    image = (1.6 * rng.random(PIXELS) - 0.3).clip(0, 1)
    return LinearPiece(image, 2 * rng.normal(size=CLASSES), rng.normal(size=(CLASSES, PIXELS)))


def leads(each: LinearPiece, move: np.ndarray) -> np.ndarray:
    """By how much the class leads the others after a move; from the logits themselves."""
    logits = each.logits + each.gradients @ move
    label = each.logits.argmax()
    return np.delete(logits[label] - logits, label)


def is_image(values: np.ndarray) -> bool:
    return bool(((values >= 0) & (values <= 1)).all())


@pytest.mark.parametrize("seed", range(4))
def test_least_norm_is_the_least_squares_solution(seed):
    rng = np.random.default_rng(seed)
    matrix, values = rng.normal(size=(5, 40)), rng.normal(size=5)
    formula = matrix.T @ np.linalg.inv(matrix @ matrix.T) @ values
    np.testing.assert_allclose(least_norm(matrix, values), formula, atol=1e-6)
    matrix[4] = matrix[0] - matrix[1]  # not of full rank, and not to be solved
    best = np.linalg.lstsq(matrix, values, rcond=None)[0]
    np.testing.assert_allclose(least_norm(matrix, values), best, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_least_norm_in_a_box(seed):
    rng = np.random.default_rng(seed)
    matrix, inside = rng.normal(size=(2, 6)), rng.random(6) - 0.3
    values = matrix @ inside
    free = least_norm_in_box(matrix, values, -np.inf, np.inf)
    np.testing.assert_allclose(free, least_norm(matrix, values), atol=1e-6)
    found = least_norm_in_box(matrix, values, -0.3, 0.7)
    best = minimize(
        lambda x: x @ x,
        inside,
        bounds=[(-0.3, 0.7)] * 6,
        constraints={"type": "eq", "fun": lambda x: matrix @ x - values},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    np.testing.assert_allclose(found, best.x, atol=1e-5)
    assert least_norm_in_box(matrix, values + 100, -0.3, 0.7) is None


@pytest.mark.parametrize("seed", range(4))
class TestLinearPiece:
    def test_the_null_space_keeps_all_logits(self, seed):
        each = piece(seed)
        assert each.null_dimension == PIXELS - np.linalg.matrix_rank(each.gradients)
        move = each.null_move(np.random.default_rng(seed).normal(size=PIXELS))
        np.testing.assert_allclose(each.gradients @ move, 0, atol=1e-6)
        assert np.linalg.norm(move) > 1 and is_image(each.image + move)

    def test_the_image_of_least_energy(self, seed):
        each = piece(seed)
        best = np.linalg.lstsq(each.normals, each.normals @ each.image, rcond=None)[0]
        np.testing.assert_allclose(each.image + each.least_energy(), best, atol=1e-6)
        move = each.least_energy_in_box()
        np.testing.assert_allclose(leads(each, move), each.leads, atol=1e-6)
        assert is_image(each.image + move)
        least, inside, before = (np.linalg.norm(x) for x in (best, each.image + move, each.image))
        assert least <= inside + 1e-9 and inside < before

    def test_nothing_in_the_cone_is_farther_than_the_linear_program_finds(self, seed):
        each, rng = piece(seed), np.random.default_rng(seed)
        direction = rng.normal(size=PIXELS)
        move = each.farthest(direction)
        assert is_image(each.image + move)
        assert (leads(each, move) >= MARGIN * each.leads - 1e-6).all()
        others = rng.random((20000, PIXELS)) * rng.random((20000, 1)) * np.sign(direction)
        others = (each.image + others).clip(0, 1) - each.image
        inside = ((others @ each.normals.T) <= (1 - MARGIN) * each.leads).all(1)
        assert inside.sum() > 100
        assert (others[inside] @ direction).max() <= move @ direction + 1e-6

    def test_linear_program_and_moves_inwards_agree(self, seed):
        each, rng = piece(seed), np.random.default_rng(seed)
        far = each.farthest(rng.normal(size=PIXELS))
        margins = each.leads - each.normals @ far
        assert (margins >= -1e-6).all()
        back = each.inward(margins)
        np.testing.assert_allclose(each.normals @ back, each.normals @ far, atol=1e-6)
        np.testing.assert_allclose(back @ (far - back), 0, atol=1e-6)  # the rest is null space
        wanted = each.leads * rng.random(CLASSES - 1)
        np.testing.assert_allclose(leads(each, each.inward(wanted)), wanted, atol=1e-6)
        move = each.inward_in_box(wanted)
        assert is_image(each.image + move)
        assert (each.normals @ move <= each.leads + 1e-6).all()
        way = (each.normals @ move) / (each.leads - wanted)  # a half, a quarter, ... of it
        np.testing.assert_allclose(way, way[0], atol=1e-6)
        assert np.log2(way[0]) == pytest.approx(round(np.log2(way[0])), abs=1e-5)

    def test_balls(self, seed):
        each, rng = piece(seed), np.random.default_rng(seed)
        lengths = np.linalg.norm(each.normals, axis=1)
        assert each.radius == pytest.approx((each.leads / lengths).min())
        centre, radius = each.ball
        assert is_image(each.image + centre)
        assert (leads(each, centre) / lengths).min() == pytest.approx(radius, abs=1e-6)
        others = rng.random((20000, PIXELS)) - each.image
        distances = (each.leads - others @ each.normals.T) / lengths
        assert max(each.radius, distances.min(1).max()) <= radius + 1e-6


def test_where_the_network_does_not_move_at_all():
    image = np.full(PIXELS, 0.5)
    each = LinearPiece(image, np.arange(3.0), np.zeros((3, PIXELS)))
    assert each.null_dimension == PIXELS
    assert each.radius == each.ball[1] == pytest.approx(np.sqrt(PIXELS))
    np.testing.assert_array_equal(each.least_energy_in_box(), -image)
    np.testing.assert_allclose(each.farthest(np.ones(PIXELS)), 1 - image)
    np.testing.assert_allclose(each.null_move(np.ones(PIXELS)), 1 - image)
    assert not each.inward_in_box(each.leads / 2).any()
