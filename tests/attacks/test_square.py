import pytest
import torch

from attacks import Square, Threat
from attacks.square import _window
from tests.attacks.conformance import problem

THREAT = Threat("linf", 0.01)


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


def test_more_queries_never_raise_robust_accuracy():
    model, images, labels = problem(2, 40)
    results = [
        Square(THREAT, queries=queries, rescale=False)(model, images, labels, [0, 1]).correct
        for queries in (1, 20, 120)
    ]
    assert (results[1] <= results[0]).all() and (results[2] <= results[1]).all()
    assert results[2].sum() < results[0].sum()
