"""Attacks that a user brings: registered by name, and told in one line what they lack."""

import copy
import pickle
from dataclasses import dataclass

import pytest
import torch

from attacks import ATTACKS, Attack, AttackError, Threat, build, misclassified
from tests.attacks.conformance import problem

THREAT = Threat("linf", 0.02)


@dataclass(frozen=True)
class Corner(Attack):
    """Tries the brightest corner of the ball, `reach` times as far."""

    reach: float = 1.0
    name = "corner"

    def _run(self, model, active_set, rng):
        points = (active_set.images + self.reach * self.threat.epsilon).clamp(0, 1)
        active_set.mark_adversarial(points, misclassified(model(points), active_set.labels))


class Nameless(Attack):
    def _run(self, model, active_set, rng):
        pass


class NamedByAMethod(Nameless):
    def name(self):
        return "method"


class Searchless(Attack):
    name = "searchless"


@dataclass(frozen=True)
class Stale(Attack):
    """Keeps points across `mark_adversarial` that it does not pass to it."""

    name = "stale"

    def _run(self, model, active_set, rng):
        points = active_set.images
        broken = torch.arange(points.shape[1]).expand(len(points), -1) == 0
        active_set.mark_adversarial(points, broken)
        active_set.mark_adversarial(points, broken)


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    for name in ("corner", "nameless"):
        monkeypatch.setitem(ATTACKS, name, {"corner": Corner, "nameless": Nameless}[name])
    return monkeypatch


def test_is_found_by_its_name_with_its_options():
    model, images, labels = problem(2, 20)
    attack = build("corner", THREAT, reach=0.5)
    assert attack.describe() == {
        "name": "corner",
        "threat": {"norm": "linf", "epsilon": 0.02},
        "reach": 0.5,
    }
    found = attack(model, images, labels, [0, 1])
    corner = (images + 0.01).clamp(0, 1)
    right = model(images).argmax(-1) == labels
    assert torch.equal(found.robust_mask, right & (model(corner).argmax(-1) == labels))
    assert not attack.perturbs and pickle.loads(pickle.dumps(attack)) == copy.deepcopy(attack)


def test_points_outside_the_threat_are_told_and_count_only_within():
    model, images, labels = problem(2, 20)
    with pytest.warns(UserWarning, match=r"corner marked \d+ points outside its threat"):
        found = build("corner", THREAT, reach=9.0)(model, images, labels, [0, 1])
    assert THREAT.contains(found.images, images).all()
    assert torch.equal(found.robust_mask, model(found.images).argmax(-1) == labels)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Nameless, "Nameless needs a `name`"),
        (NamedByAMethod, "NamedByAMethod needs a `name`"),
        (Searchless, "Searchless needs a `_run`"),
    ],
)
def test_what_it_lacks_is_told(kind, message):
    with pytest.raises(AttackError, match=message):
        kind(THREAT)


def test_points_that_were_not_packed_anew_are_refused():
    model, images, labels = problem(2, 20)
    with pytest.raises(AttackError, match="kept across mark_adversarial without being passed"):
        Stale(THREAT)(model, images, model(images).argmax(-1), [0, 1])


@pytest.mark.parametrize(
    ("maker", "options", "message"),
    [
        (lambda threat: "corner", {}, "expected mine to make an Attack, got str"),
        (lambda threat, reach: Corner(threat, reach), {}, "mine needs the option 'reach'"),
        (lambda threat, reach: Corner(threat, reach), {"far": 1}, "unknown option of mine 'far'"),
        (lambda threat: Corner(threat), {"far": 1}, "mine has no options, got 'far'"),
    ],
)
def test_makers_of_another_kind(registry, maker, options, message):
    registry.setitem(ATTACKS, "mine", maker)
    with pytest.raises(AttackError, match=message):
        build("mine", THREAT, **options)


def test_a_radius_is_no_threat():
    with pytest.raises(AttackError, match=r'expected a threat, Threat\("linf", 0.1\) say, got 0.3'):
        build("corner", 0.3)


def test_a_maker_may_take_any_options(registry):
    registry.setitem(ATTACKS, "mine", lambda ball, **options: Corner(ball, **options))
    assert build("mine", THREAT, reach=0.5) == Corner(THREAT, 0.5)
