import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attacks import APGD, Threat
from attacks.apgd import _checkpoints
from tests.attacks.conformance import Loop, network, problem
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
        # Every image stays active, though many are broken.
        lengths = torch.stack([threat.distance(x, images) for x in visited])
        assert lengths.max() <= scale * 0.3 + 1e-6 and (lengths.amax(0) > (scale - 0.1) * 0.3).all()
    broken = torch.stack([model(x).argmax(-1) != labels for x in points[1:15]]).any(0)
    assert result.robust_mask[broken].any()
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


def auto_pgd(net, image: Tensor, label: Tensor, start: Tensor, epsilon: float, steps: int):
    """Algorithm 1 of Croce, Hein 2020 in linf for one image: points visited, how often halved.

    As written there; the official code rounds periods instead of checkpoints, alike at 100 steps.
    """
    low, high = (image - epsilon).clamp(min=0), (image + epsilon).clamp(max=1)

    def look(x: Tensor) -> tuple[float, Tensor]:
        x = x.clone().requires_grad_()
        loss = F.cross_entropy(net(x), label)
        return float(loss.detach()), torch.autograd.grad(loss, x)[0]

    def clipped(x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, low), high)

    ends = [0, 0.22]  # of the periods, as shares of the steps
    while ends[-1] < 1:
        ends.append(ends[-1] + max(ends[-1] - ends[-2] - 0.03, 0.06))
    ends = [int(-(-round(steps * end, 6) // 1)) for end in ends]
    size = 2 * epsilon
    x, before, visited, values, best = start, start, [], [], None
    kept, at_last, size_at_last = 0, None, None
    for step in range(steps + 1):
        visited.append(x)
        value, gradient = look(x)
        values.append(value)
        if best is None or value > best[0]:
            best = value, x, gradient
        if step in ends[1:]:
            since = ends[ends.index(step) - 1]
            rose = sum(b > a for a, b in zip(values[since:step], values[since + 1 :], strict=True))
            stuck = size_at_last == size and at_last == best[0]
            size_at_last, at_last = size, best[0]
            if rose <= 0.75 * (step - since) or stuck:
                size, x, gradient, kept = size / 2, best[1], best[2], kept + 1
        ahead = clipped(x + size * gradient.sign())
        share = 0.75 if step else 1.0
        x, before = clipped(x + share * (ahead - x) + (1 - share) * (x - before)), x
    return visited, kept


def test_every_point_is_that_of_the_published_algorithm():
    # In double precision, where no gradient is small enough for rounding to turn its sign.
    _, images, _ = problem(1, 4)
    rugged, images = network(0).double(), images.double()
    labels, epsilon, steps = rugged(images[0]).argmax(-1), 0.3, 100
    unlike = 0
    for image, label in zip(images[0], labels, strict=True):
        points = []

        def net(x: Tensor, label: Tensor = label) -> Tensor:
            return rugged(x) + 20 * F.one_hot(label, 5)  # an attack would end where it breaks

        def recorded(x: Tensor, points: list[Tensor] = points) -> Tensor:
            points.append(x.detach().clone())
            return net(x[0])[None]

        attack = APGD(Threat("linf", epsilon), steps=steps)
        assert attack(recorded, image[None, None], label[None, None], [0]).robust_mask
        _, *visited, _ = (point[0] for point in points)
        assert not visited[0].equal(image[None])
        expected, halved = auto_pgd(net, image[None], label[None], visited[0], epsilon, steps)
        torch.testing.assert_close(torch.cat(visited), torch.cat(expected), rtol=0, atol=1e-9)
        assert halved >= 2
        unlike += len({tuple(point.flatten().tolist()) for point in visited})
    assert unlike > 50 * len(labels), "most points should be new ones"


def test_checkpoints_come_ever_faster():
    periods = [22, 19, 16, 13, 10, 7, 6, 6]
    found = list(_checkpoints(100))
    assert [period for _, period in found] == periods
    assert [step for step, _ in found] == [sum(periods[: i + 1]) for i in range(len(periods))]


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_the_last_point_counts(loss):
    """One step of twice epsilon ends in the corner of the ball, which alone breaks this network."""
    weight = torch.stack([torch.ones(36), -torch.ones(36), torch.full((36,), -9.0)])
    images, threat = torch.full((1, 1, 1, 6, 6), 0.5), Threat("linf", 0.1)
    # How far class 0 stays ahead of class 1 in that corner, but for the latter's bias.
    reached = 2 * 36 * (0.5 - 0.1)
    labels = torch.zeros(1, 1, dtype=torch.int64)
    for ahead, breaks in ((reached - 0.01, False), (reached + 0.01, True)):
        bias = torch.tensor([0.0, ahead, -1000.0])
        model = Loop([linear(weight, bias)])
        found = APGD(threat, steps=1, loss=loss)(model, images, labels, [0])
        assert bool(found.robust_mask) != breaks
