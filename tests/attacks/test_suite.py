import pytest
import torch

from attacks import (
    APGD,
    PGD,
    AttackError,
    Square,
    Suite,
    TargetedAPGD,
    TargetedFAB,
    Threat,
    standard,
)
from attacks.losses import margin
from tests.attacks.conformance import problem

THREAT = Threat("linf", 0.02)


def test_worst_case_per_image():
    model, images, labels = problem(2, 40)
    seeds = [0, 1]
    attacks = [Square(THREAT, queries=30), PGD(THREAT, steps=2), APGD(THREAT, steps=10)]
    suite = Suite(*attacks)(model, images, labels, seeds)
    # What happens to an image does not depend on the rest of the work, so "all attacks on all
    # images" and "each on those still robust" must agree exactly.
    alone = [attack(model, images, labels, seeds).robust_mask for attack in attacks]
    worst = torch.stack(alone).cumprod(0).bool()
    assert list(suite.masks) == [attack.name for attack in attacks]
    assert torch.equal(torch.stack(list(suite.masks.values())), worst)
    assert torch.equal(suite.robust_mask, worst[-1])
    assert torch.equal(suite.robust_mask, model(suite.images).argmax(-1) == labels)
    assert (worst[-1] != worst[0]).any()


def test_later_attacks_see_robust_images_only():
    model, images, _ = problem(1, 30)
    labels = model(images).argmax(-1)
    sizes = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        sizes.append(x.shape[1])
        return model(x)

    pgd, square = PGD(THREAT, steps=3), Square(THREAT, queries=5)
    robust = int(pgd(model, images, labels, [0]).robust_mask.sum())
    Suite(pgd, square)(counted, images, labels, [0])
    # Clean, three steps and the last point, the check of PGD's finds; then Square's queries.
    assert sizes[5] == 30 and 0 < sizes[6] == robust < 30


@pytest.mark.parametrize(
    ("norm", "restarts", "targets"), [("linf", 1, 9), ("l2", 1, 9), ("l1", 5, 5)]
)
def test_standard_is_autoattack(norm, restarts, targets):
    threat = Threat(norm, 0.02)
    suite = standard(threat)
    assert suite.name == "standard"
    assert suite.attacks == (
        APGD(threat, steps=100, restarts=restarts, loss="ce"),
        TargetedAPGD(threat, steps=100, targets=targets, restarts=1),
        TargetedFAB(threat, steps=100, targets=9),
        Square(threat, queries=5000, p_init=0.8, rescale=False),
    )


def test_the_same_attack_twice_has_two_masks_and_suites_nest():
    model, images, labels = problem(1, 10)
    inner = Suite(PGD(THREAT, steps=2), PGD(THREAT, steps=2, step_size=0.001))
    masks = Suite(inner, APGD(THREAT, steps=2))(model, images, labels, [0]).masks
    assert list(masks) == ["pgd-2-1", "pgd-2-1 (2)", "apgd-ce"]


def test_makes_images_by_those_of_its_attacks_that_can():
    model, images, labels = problem(2, 20)
    square = Square(THREAT, queries=30)
    made = square.perturb(model, images, labels, [0, 1])
    suite = Suite(TargetedAPGD(THREAT, steps=5), square)
    found = suite.perturb(model, images, labels, [0, 1])
    worse = margin(model(made), labels) > margin(model(images), labels)
    assert suite.perturbs and worse.any()
    assert torch.equal(found[worse], made[worse]) and torch.equal(found[~worse], images[~worse])
    evaluators = Suite(TargetedAPGD(THREAT, steps=5), TargetedFAB(THREAT, steps=2))
    assert not evaluators.perturbs
    with pytest.raises(AttackError, match="only evaluates"):
        evaluators.perturb(model, images, labels, [0, 1])


def test_several_threats_are_judged_by_their_union():
    model, images, labels = problem(2, 40)
    threats = THREAT, Threat("l2", 0.08), Threat("l1", 0.25)
    each = [PGD(threat, steps=5) for threat in threats]
    result = Suite(*each)(model, images, labels, [0, 1])
    alone = torch.stack([attack(model, images, labels, [0, 1]).robust_mask for attack in each])
    assert torch.equal(result.robust_mask, alone.all(0))
    assert (result.robust_mask.sum(1) < alone.sum(2).amin(0)).any()  # or one norm would do
    inside = torch.stack([threat.contains(result.images, images) for threat in threats])
    assert inside.any(0).all()
    made = [attack.perturb(model, images, labels, [0, 1]) for attack in each]
    worst = torch.stack([margin(model(points), labels) for points in (images, *made)]).amax(0)
    points = Suite(*each).perturb(model, images, labels, [0, 1])
    assert torch.equal(margin(model(points), labels), worst)


def test_bad_suites():
    with pytest.raises(AttackError, match="at least one attack"):
        Suite()
