import pytest
import torch

from attacks import PerNetworkRNG, Square, Threat
from attacks.square import _pattern, _window
from tests.attacks.conformance import problem

THREAT = Threat("linf", 0.01)
KIND = torch.device("cpu"), torch.float64


def test_windows_are_squares_anywhere_in_the_image():
    corners = torch.rand(2, 500, 2, generator=torch.Generator().manual_seed(0))
    corners[0, :2] = torch.tensor([[0.0, 0.0], [1.0, 1.0]]) * (1 - 2**-24)
    window = _window(corners, 3, 5, 7)
    assert window.shape == (2, 500, 1, 5, 7)
    assert (window.sum((2, 3, 4)) == 9).all()
    assert (window.any(-1).sum(-1) == 3).all() and (window.any(-2).sum(-1) == 3).all()
    assert window[0, 0, 0, :3, :3].all() and window[0, 1, 0, 2:, 4:].all()
    assert window.flatten(0, 1).any(0).all()


@pytest.mark.parametrize(
    ("options", "proposal", "share"),
    [
        ({"queries": 10_000}, 0, 0.8),
        ({"queries": 10_000}, 10, 0.8),
        ({"queries": 10_000}, 11, 0.8 / 2),
        ({"queries": 10_000}, 8001, 0.8 / 512),
        ({"queries": 1000}, 2, 0.8 / 2),
        ({"queries": 1000}, 999, 0.8 / 512),
        ({"queries": 5000, "rescale": False}, 4998, 0.8 / 128),
    ],
)
def test_schedule(options, proposal, share):
    side = Square(THREAT, **options)._side(proposal, 224, 224)
    assert side == round((share * 224 * 224) ** 0.5)


def test_side_fits_the_image():
    assert Square(THREAT, p_init=1.0)._side(0, 3, 30) == 3
    assert Square(THREAT)._side(4998, 3, 3) == 1


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_sides_in_l2_and_l1_are_odd_and_3_at_least(norm):
    square = Square(Threat(norm, 0.1), queries=10_000)
    sides = [square._side(proposal, 28, 28) for proposal in (0, 11, 51, 201, 501, 1001, 9999)]
    assert sides == [25, 19, 13, 9, 7, 5, 3]
    assert square._side(9999, 2, 5) == 2


def test_starts_from_stripes_and_then_changes_one_square_a_query():
    model, images, _ = problem(1, 1)
    images = images.clamp(0.1, 0.9)  # so that both ends of a pixel's range differ
    labels = model(images).argmax(-1)
    points = []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        points.append(x[0, 0, 0].clone())
        return model(x)

    Square(Threat("linf", 0.001), queries=100)(recorded, images, labels, [0])
    assert len(points) == 1 + 100 + 1, "clean, the queries, final check"
    visited = torch.stack(points[1:-1])
    raised = visited > images[0, 0]
    assert ((visited - images[0, 0]).abs() - 0.001).abs().max() < 1e-6
    assert (raised[0] == raised[0, :1]).all()
    # A query differs from the best point, which was one of those before it, in one square only.
    for query in range(1, 100):
        side = Square(THREAT, queries=100)._side(query - 1, 6, 6)
        changed = (raised[query] ^ raised[:query]).flatten(1).sum(1)
        assert changed.min() <= side**2


@pytest.mark.parametrize(("order", "power"), [(2, 2), (1, 4)])
def test_pattern_is_the_eta_of_the_paper(order, power):
    # A hill of squares, the k-th of side 2k - 1 and height k^-power, for each half.
    ring = 2**-power
    upper = torch.tensor([[ring, 1 + ring, ring]], dtype=torch.float64)
    lower = torch.full((2, 3), ring, dtype=torch.float64)
    lower[1, 1] += 1
    halves = [half / half.abs().pow(order).sum() ** (1 / order) for half in (upper, lower)]
    expected = torch.cat([halves[0], -halves[1]]) / 2 ** (1 / order)
    assert torch.allclose(_pattern(3, order, *KIND), expected)
    for side in (1, 2, 4, 5, 9):
        pattern = _pattern(side, order, *KIND)
        assert pattern.shape == (side, side)
        assert pattern.abs().pow(order).sum() == pytest.approx(1)
        assert (pattern[: side // 2] > 0).all() and (pattern[side // 2 :] < 0).all()


def test_starts_from_tiles_in_l2():
    images = 0.4 + 0.2 * torch.rand(1, 3, 2, 11, 11, generator=torch.Generator().manual_seed(0))
    delta = Square(Threat("l2", 0.3))._tiles(images, PerNetworkRNG([0])) - images
    assert torch.allclose(delta.flatten(2).norm(dim=-1), torch.tensor(0.3))
    # 5 x 5 tiles of side 2, the last row and column left over.
    assert (delta[..., 10, :] == 0).all() and (delta[..., :, 10] == 0).all()
    tiles = delta[..., :10, :10].unflatten(-1, (5, 2)).unflatten(-3, (5, 2)).transpose(-2, -3)
    assert (tiles.sum((-1, -2)).abs() < 1e-6).all() and (tiles != 0).all()
    first = tiles[..., 0, 0] > 0
    upright = first == (tiles[..., 0, 1] > 0)
    assert (upright != (first == (tiles[..., 1, 0] > 0))).all()
    assert (upright == upright[:, :, :1]).all(), "all channels the same way up"
    assert 0.3 < upright.float().mean() < 0.7 and 0.3 < first.float().mean() < 0.7


@pytest.mark.parametrize(("norm", "order"), [("l2", 2), ("l1", 1)])
def test_a_query_puts_the_budget_of_two_windows_into_one(norm, order):
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(1, 3, 2, 11, 11, generator=generator)
    square = Square(Threat(norm, 0.3))
    best = square._fit(0.01 * torch.randn(images.shape, generator=generator), images)
    corners = torch.tensor([[0.0, 0.0, 0.7, 0.7], [0.5, 0.5, 0.6, 0.6], [0.3, 0.9, 0.0, 0.0]])
    drawn = torch.cat([corners, torch.rand(3, 3, generator=generator)], -1)[None]
    into, out = (_window(drawn[..., at : at + 2], 3, 11, 11) for at in (0, 2))
    was, now = best - images, square._exchange(best, drawn, 3, images) - images
    assert torch.allclose(now.flatten(2).norm(p=order, dim=-1), torch.tensor(0.3))
    assert (now * (out & ~into) == 0).all()
    if norm == "l2":  # without a projection to share out what is too much
        assert torch.allclose(now * ~(into | out), was * ~(into | out), atol=1e-6)
        held, holds = ((x * (into | out)).flatten(3).norm(dim=-1) for x in (was, now))
        assert torch.allclose(held, holds, atol=1e-6), "each channel keeps its own"
        for image, (row, column, _, _, turned, *signs) in enumerate(drawn[0].tolist()):
            rows, columns = (slice(int(at * 9), int(at * 9) + 3) for at in (row, column))
            pattern = _pattern(3, 2, *KIND).float()
            pattern = pattern.T if turned < 0.5 else pattern
            for channel, sign in enumerate(signs):
                old, new = (x[0, image, channel, rows, columns] for x in (was, now))
                mixed = (-pattern if sign < 0.5 else pattern) + old / old.norm()
                assert torch.allclose(new / new.norm(), mixed / mixed.norm(), atol=1e-5)


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (3, 3), (12, 12), (14, 5)])
def test_any_image_has_room_for_tiles_and_windows(norm, shape):
    images = torch.rand(2, 3, 3, *shape, generator=torch.Generator().manual_seed(0))
    threat = Threat(norm, 0.2)

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x.mean((2, 3, 4)), 1 - x.mean((2, 3, 4))], -1)

    labels = torch.zeros(2, 3, dtype=torch.int64)
    found = Square(threat, queries=30).perturb(model, images, labels, [0, 1])
    assert (threat.distance(found, images) <= 0.2 + 1e-6).all()
    assert found.min() >= 0 and found.max() <= 1 and not torch.equal(found, images)


def test_more_queries_never_raise_robust_accuracy():
    model, images, labels = problem(2, 40)
    results = [
        Square(THREAT, queries=queries, rescale=False)(model, images, labels, [0, 1]).robust_mask
        for queries in (1, 20, 120)
    ]
    assert (results[1] <= results[0]).all() and (results[2] <= results[1]).all()
    assert results[2].sum() < results[0].sum()
