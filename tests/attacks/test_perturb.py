"""Images to train on: what `perturb` makes, of every attack that has it."""

import pytest
import torch

from attacks import (
    APGD,
    EOTPGD,
    PGD,
    AttackError,
    LineSearchFGSM,
    MomentumFGSM,
    PerNetworkRNG,
    RandomFGSM,
    Square,
    Suite,
    TargetedAPGD,
    Threat,
)
from attacks.losses import cross_entropy, margin
from tests.attacks.conformance import problem

THREAT = Threat("linf", 0.02)
ATTACKS = [
    RandomFGSM(THREAT),
    LineSearchFGSM(THREAT),
    PGD(THREAT, steps=3),
    PGD(THREAT, steps=3, loss="targeted"),
    PGD(THREAT, steps=3, loss="random"),
    EOTPGD(THREAT, steps=3, samples=2),
    MomentumFGSM(THREAT),
    Square(THREAT, queries=8),
    Square(Threat("l2", 0.1), queries=8),
    Square(Threat("l1", 0.3), queries=8),
    PGD(Threat("l1", 0.3), steps=3),
    APGD(THREAT, steps=5),
    APGD(Threat("l1", 0.3), steps=10),
    Suite(PGD(THREAT, steps=2, loss="margin"), Square(THREAT, queries=4)),
]


def margins(model, points, labels):
    return margin(model(points), labels)


@pytest.mark.parametrize(
    "attack", ATTACKS, ids=lambda attack: f"{attack.name}-{attack.threat.norm}"
)
def test_points_lie_in_the_threat_and_every_network_has_its_own(attack):
    model, images, labels = problem(3, 10)
    points = attack.perturb(model, images, labels, [0, 1, 2])
    assert points.shape == images.shape
    assert attack.threat.distance(points, images).max() <= attack.threat.epsilon + 1e-6
    assert points.min() >= 0 and points.max() <= 1
    assert margins(model, points, labels).mean() > margins(model, images, labels).mean()
    alone = attack.perturb(lambda x: model.nets[1](x[0])[None], images[1:2], labels[1:2], [1])
    assert torch.allclose(alone[0], points[1], rtol=0, atol=1e-6)


def test_square_returns_its_best_query():
    model, images, labels = problem(2, 10)
    visited = []

    def recorded(x):
        visited.append(x.clone())
        return model(x)

    points = Square(THREAT, queries=8).perturb(recorded, images, labels, [0, 1])
    best = torch.stack([margins(model, x, labels) for x in visited]).amax(0)
    assert len(visited) == 8 and torch.equal(margins(model, points, labels), best)


@pytest.mark.parametrize(("norm", "kept"), [("linf", 6), ("l2", 6), ("l1", 3)])
def test_apgd_returns_the_best_point_that_it_visits_in_its_ball(norm, kept):
    """In l1 the first steps are in wider balls. Images that are broken are not left there."""
    model, images, labels = problem(2, 20)
    visited = []

    def recorded(x):
        visited.append(x.detach().clone())
        return model(x)

    points = APGD(Threat(norm, 0.3), steps=5).perturb(recorded, images, labels, [0, 1])
    assert all(x.shape == images.shape for x in visited)
    losses = torch.stack([cross_entropy(model(x), labels) for x in visited[-kept:]])
    assert torch.equal(cross_entropy(model(points), labels), losses.amax(0))
    assert len(losses.argmax(0).unique()) >= 2  # or the last one alone would do


def test_a_line_search_returns_the_worst_of_its_lengths():
    model, images, labels = problem(2, 40)
    threat, lengths = Threat("linf", 0.5), (0.5, 1.0, 2.0)
    found = LineSearchFGSM(threat, lengths=lengths).perturb(model, images, labels, [0, 1])
    ends = [RandomFGSM(threat, 0.5 * k).perturb(model, images, labels, [0, 1]) for k in lengths]
    reached = torch.stack([cross_entropy(model(x), labels) for x in ends])
    assert torch.allclose(cross_entropy(model(found), labels), reached.amax(0))
    assert len(reached.argmax(0).unique()) >= 2  # or one length would do


def test_a_line_search_costs_a_forward_pass_a_length():
    model, images, labels = problem(1, 4)
    calls = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        calls.append(x.requires_grad)
        return model(x)

    LineSearchFGSM(THREAT).perturb(counted, images, labels, [0])
    assert calls == [True, False, False, False]


def test_a_suite_returns_the_strongest_point_of_each_image():
    model, images, labels = problem(2, 20)
    parts = [PGD(THREAT, steps=1, loss="margin"), PGD(THREAT, steps=1, loss="random")]
    points = Suite(*parts).perturb(model, images, labels, [0, 1])
    candidates = [images, *(part.perturb(model, images, labels, [0, 1]) for part in parts)]
    reached = torch.stack([margins(model, x, labels) for x in candidates])
    assert torch.equal(margins(model, points, labels), reached.amax(0))
    assert len(reached.argmax(0).unique()) >= 2  # or one part alone would do


def test_random_targets_are_wrong_classes_drawn_anew():
    model, images, labels = problem(1, 400)
    attack = PGD(THREAT, steps=1, loss="random")

    class Half(PerNetworkRNG):
        """PerNetworkRNG that are all the same number in [0, 1)."""

        def __init__(self, number):
            super().__init__([])
            self.number = number

        def uniform(self, *shape):
            return torch.full((1, *shape), self.number)

    logits = model(images)
    aimed = [attack._targets(logits, labels, 0, Half(u)) for u in (0.0, 0.3, 0.6, 0.99)]
    assert all((targets != labels).all() for targets in aimed)
    ranks = logits.scatter(-1, labels[..., None], -torch.inf).argsort(-1, descending=True)
    for rank, targets in enumerate(aimed):
        assert torch.equal(targets, ranks[..., rank])


def test_attacks_that_make_no_training_images_say_so():
    with pytest.raises(AttackError, match="only evaluates"):
        TargetedAPGD(THREAT).perturb(*problem(1, 2), [0])
