from itertools import combinations

import pytest
import torch

import attacks
from hypergen.measure import (
    Accuracy,
    Robustness,
    attacked_batch,
    disagreement,
    measures,
    mixed_attack,
    survivors,
)
from hypergen.weights_file import load_network
from targets import Population

THREAT = attacks.Threat("linf", 0.05)


@pytest.fixture
def mixture(networks, base) -> Population:
    """A trained network among fresh ones."""
    return Population.of([networks[0], load_network(base), networks[1]])


@pytest.fixture
def images(digits):
    return digits.test.first(70)


def test_survivors_equal_a_plain_loop(mixture, images):
    attack = attacks.PGD(THREAT, steps=3, restarts=2)
    table = survivors(mixture, *images, attack, seed=5, batch_size=32)
    assert list(table) == ["clean", attack.name]
    for index in range(3):
        network = mixture.module_at(index)

        def model(points, network=network):
            return torch.stack([network(part) for part in points])

        for start in range(0, 70, 32):
            part, labels = (t[start : start + 32] for t in images)
            clean = network(part).argmax(1) == labels
            assert table["clean"][index, start : start + 32].equal(clean)
            left = attack(model, part[None], labels, [5 + start]).correct[0]
            assert table[attack.name][index, start : start + 32].equal(left)
    assert table["clean"][1].sum() > table[attack.name][1].sum() > 0


def test_without_a_threat_robustness_is_accuracy(mixture, images):
    nothing = attacks.Threat("linf", 0.0)
    accuracy = Accuracy()(mixture, *images, 0)
    for attack in (attacks.PGD(nothing, steps=2), mixed_attack(nothing)):
        assert Robustness(attack)(mixture, *images, 0).equal(accuracy)
    assert accuracy.max() > 0.5


@pytest.mark.parametrize("batch_size", [1, 7, 70, 1000])
def test_clean_accuracy_does_not_depend_on_the_batch_size(mixture, images, batch_size):
    table = survivors(mixture, *images, None, 0, batch_size=batch_size)
    whole = mixture(images[0].expand(3, *images[0].shape)).argmax(-1) == images[1]
    assert table["clean"].equal(whole)


def test_packed_equals_alone(mixture, images):
    attack = mixed_attack(THREAT)
    packed = survivors(mixture, *images, attack, seed=1)
    for i in range(3):
        alone = survivors(mixture[i : i + 1], *images, attack, seed=1)
        assert all(alone[name][0].equal(packed[name][i]) for name in packed)


def test_progress_counts_every_network_and_image_once(mixture, images):
    counts = []
    survivors(mixture, *images, None, 0, batch_size=32, progress=counts.append)
    assert sum(counts) == 3 * 70


def test_the_mixed_attack_is_never_above_its_parts(mixture, images):
    mixed = mixed_attack(THREAT)
    assert isinstance(mixed, attacks.Suite)
    together = list(survivors(mixture, *images, mixed, seed=2).values())[-1]
    parts = [list(survivors(mixture, *images, a, seed=2).values())[-1] for a in mixed.attacks]
    assert not any((together & ~alone).any() for alone in parts)
    assert together.sum() < max(alone.sum() for alone in parts)


def test_measures_are_what_survivors_count(mixture, images):
    attack = attacks.PGD(THREAT, steps=3)
    accuracy, robustness = measures(attack)
    assert (accuracy.name, robustness.name) == ("accuracy", "robustness")
    table = survivors(mixture, *images, attack, seed=4)
    assert accuracy(mixture, *images, 4).equal(table["clean"].float().mean(1))
    assert robustness(mixture, *images, 4).equal(table[attack.name].float().mean(1))


def test_attacked_batches_lie_in_the_threat_and_raise_the_loss(mixture, images):
    attack = attacks.PGD(THREAT, steps=5)
    batch = attacked_batch(mixture, *images, attack, 0)
    assert (batch.attacked - batch.images).abs().max() <= 0.05 + 1e-6
    assert batch.attacked.min() >= 0 and batch.attacked.max() <= 1
    clean, attacked = (m.surrogate(mixture, batch) for m in measures(attack))
    assert (attacked > clean).all()
    part = batch.for_networks(slice(1, 2))
    alone = attacked_batch(mixture[1:2], *images, attack, 0)
    assert part.attacked.equal(alone.attacked)


def test_disagreement_is_the_mean_over_pairs(mixture, digits):
    images, _ = digits.test.first(200)
    classes = [mixture.module_at(i)(images).argmax(1) for i in range(3)]
    pairs = [float((a != b).float().mean()) for a, b in combinations(classes, 2)]
    assert disagreement(mixture, images) == pytest.approx(sum(pairs) / 3, abs=1e-6)
    assert disagreement(mixture.choose(torch.tensor([1, 1])), images) == 0
    assert disagreement(mixture[:1], images) == 0
