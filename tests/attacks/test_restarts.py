import pytest
import torch

from attacks import APGD, PGD, PerNetworkRNG, TargetedAPGD, Threat
from tests.attacks.conformance import problem

THREAT = Threat("linf", 1e-4)  # breaks nothing


@pytest.mark.parametrize(
    ("attack", "runs"),
    [
        (PGD(THREAT, steps=3, restarts=4), 4),
        (APGD(THREAT, steps=3, restarts=4), 4),
        (TargetedAPGD(THREAT, steps=3, targets=2, restarts=2), 4),
        (TargetedAPGD(THREAT, steps=3, targets=3), 3),
    ],
    ids=["pgd", "apgd", "apgd-t", "targets"],
)
def test_every_run_is_made_and_starts_elsewhere(attack, runs):
    model, images, _ = problem(1, 4)
    labels, points = model(images).argmax(-1), []

    def recorded(x: torch.Tensor) -> torch.Tensor:
        points.append(x.detach().clone())
        return model(x)

    assert attack(recorded, images, labels, [5]).robust_mask.all()
    assert len(points) == 1 + runs * (3 + 1) + 1, "clean, each run, final check"
    starts = points[1:-1:4]
    assert starts[0].equal(THREAT.random_start(images, PerNetworkRNG([5])))
    for index, start in enumerate(starts):
        assert not start.equal(images)
        assert not any(start.equal(other) for other in starts[:index])
