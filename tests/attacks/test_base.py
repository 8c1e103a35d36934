from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import torch

from attacks import ActiveSet, Attack, AttackError, Model, PerNetworkRNG, Suite, Threat, build
from tests.attacks.conformance import problem


@dataclass(frozen=True)
class Wrong(Attack):
    """Hands in `value` everywhere, and claims to have broken everything, or nothing."""

    value: float | None
    claim: bool

    @property
    def name(self) -> str:
        return "wrong"

    def _run(self, model: Model, active_set: ActiveSet, rng: PerNetworkRNG) -> None:
        points = active_set.images
        if self.value is not None:
            points = torch.full_like(points, self.value)
        active_set.mark_adversarial(points, torch.full(active_set.labels.shape, self.claim))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("value", [None, 1.0, 7.0, -3.0])
@pytest.mark.parametrize("claim", [True, False])
@pytest.mark.filterwarnings("ignore:wrong marked")
def test_no_attack_can_over_report(norm, value, claim):
    model, images, labels = problem(2, 20)
    threat = Threat(norm, 1e-4)
    result = Wrong(threat, value, claim)(model, images, labels, [0, 1])
    assert (threat.distance(result.images, images) <= threat.epsilon + 1e-6).all()
    assert result.images.min() >= 0 and result.images.max() <= 1
    assert torch.equal(result.robust_mask, model(result.images).argmax(-1) == labels)
    assert torch.equal(result.robust_mask, model(images).argmax(-1) == labels)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_points_of_nan_are_refused_even_by_a_model_that_accepts_them(norm):
    model, images, labels = problem(1, 5)
    wrong = Wrong(Threat(norm, 0.1), float("nan"), True)
    with pytest.raises(AttackError, match="wrong returned images outside its threat, or NaN"):
        wrong(lambda x: model(x.nan_to_num()), images, labels, [0])


def test_a_wrong_attack_shields_nothing_from_the_next():
    model, images, labels = problem(2, 20)
    pgd = build("pgd", Threat("linf", 0.05), steps=5)
    alone = pgd(model, images, labels, [0, 1])
    suite = Suite(Wrong(pgd.threat, None, True), pgd)(model, images, labels, [0, 1])
    assert torch.equal(suite.robust_mask, alone.robust_mask)
    assert torch.equal(suite.images, alone.images)


def test_threads_do_not_disturb_each_other():
    model, images, labels = problem(1, 20)
    attack = build("standard", Threat("linf", 0.02), steps=2, queries=8)

    def run(seed: int) -> torch.Tensor:
        return attack(model, images, labels, [seed]).images

    with ThreadPoolExecutor(4) as pool:
        for seed, images_found in enumerate(pool.map(run, range(8))):
            assert torch.equal(images_found, run(seed))


GOOD = torch.zeros(2, 3, 1, 6, 6)
LABELS = torch.zeros(2, 3, dtype=torch.int64)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x.flatten(2).detach() + torch.arange(36), "carry no gradient"),
        (lambda x: x.flatten(2).sqrt() + torch.arange(36), "the gradient .* is NaN or infinite"),
    ],
)
def test_bad_gradients(model, message):
    with pytest.raises(AttackError, match=message):
        build("fgsm", Threat("linf", 0.1))(model, GOOD, LABELS + 35, [0, 1])


@pytest.mark.parametrize(("name", "classes"), [("apgd-dlr", 2)])
def test_too_few_classes(name, classes):
    with pytest.raises(AttackError, match=f"needs at least {classes + 1} classes, got {classes}"):
        build(name, Threat("linf", 0.1))(
            lambda x: x.flatten(2)[..., :classes], GOOD, LABELS, [0, 1]
        )


def test_half_precision_logits_are_compared_in_the_images_precision():
    model, images, labels = problem(1, 10)
    result = build("pgd", Threat("linf", 0.1), steps=3)(
        lambda x: model(x).bfloat16(), images, labels, [0]
    )
    assert result.images.dtype == torch.float32
