import torch

from attacks import APGD, Threat
from tests.attacks.conformance import Loop, problem
from tests.attacks.test_linear import best_in_l1, linear


def test_in_l1_the_ball_shrinks_to_epsilon_and_only_that_one_counts():
    model, images, _ = problem(1, 30)
    labels = model(images).argmax(-1)
    threat, points = Threat("l1", 0.3), []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        points.append(x.detach().clone())
        return model(x)

    result = APGD(threat, steps=20)(recorded, images, labels, [0])
    assert len(points) == 1 + (6 + 1) + (6 + 1) + (8 + 1) + 1
    for visited, scale in ((points[1:8], 3), (points[8:15], 2)):
        # Nobody leaves, though many are broken.
        lengths = torch.stack([threat.distance(x, images) for x in visited])
        assert lengths.max() <= scale * 0.3 + 1e-6 and (lengths.amax(0) > (scale - 0.1) * 0.3).all()
    broken = torch.stack([model(x).argmax(-1) != labels for x in points[1:15]]).any(0)
    assert result.correct[broken].any()
    assert points[15].shape[1] == 30 and points[-2].shape[1] < 30
    assert (threat.distance(points[15], images) <= 0.3 + 1e-6).all()


def test_in_l1_steps_become_as_sparse_as_the_optimum_is():
    generator = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(1, 6, 1, 20, 20, generator=generator)
    weight = torch.randn(3, 400, generator=generator)
    # Class 1 is the runner-up everywhere, out of reach.
    model = Loop([linear(weight, torch.tensor([1000.0, 0.0, -1000.0]))])
    points = []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        points.append(x.detach().clone())
        return model(x)

    attack = APGD(Threat("l1", 4.0), steps=100, loss="dlr")
    attack(recorded, images, torch.zeros(1, 6, dtype=torch.int64), [0])
    start, *_, end = points[1:-1]
    first, last = ((x != images).flatten(2).sum(-1) for x in (start, end))
    normal = weight[1] - weight[0]
    best = torch.stack([best_in_l1(image.flatten(), normal, 4.0) for image in images[0]])
    assert (first > 30).all() and (last < 15).all()
    assert ((end - images).flatten(2)[0] @ normal > 0.8 * best).all()
