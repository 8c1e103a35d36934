from itertools import combinations, permutations

import pytest
import torch

import attacks
from hypergen.diversity import disagreement, error_overlap, transfer
from hypergen.weights_file import load_network
from targets import Population


@pytest.fixture
def mixture(networks, base) -> Population:
    """A trained network among fresh ones."""
    return Population.of([networks[0], load_network(base), networks[1]])


@pytest.fixture
def twins(mixture) -> Population:
    return mixture.choose(torch.tensor([1, 1]))


def classes(population, images):
    return [population.module_at(i)(images).argmax(1) for i in range(len(population))]


def test_disagreement_is_the_mean_over_pairs(mixture, twins, digits):
    images, _ = digits.test.first(200)
    pairs = [float((a != b).float().mean()) for a, b in combinations(classes(mixture, images), 2)]
    assert disagreement(mixture, images) == pytest.approx(sum(pairs) / 3, abs=1e-6)
    assert disagreement(twins, images) == 0
    assert disagreement(mixture[:1], images) == 0


def test_error_overlap_is_the_share_of_common_errors(mixture, twins, digits):
    images, labels = digits.test.first(200)
    wrong = [set((c != labels).nonzero().flatten().tolist()) for c in classes(mixture, images)]
    pairs = [len(a & b) / len(a | b) for a, b in combinations(wrong, 2)]
    assert error_overlap(mixture, images, labels) == pytest.approx(sum(pairs) / 3)
    assert 0 < sum(pairs) < 3
    assert error_overlap(twins, images, labels) == 1
    flawless = classes(twins, images)[0]
    assert error_overlap(twins, images, flawless) == 1


def test_transfer_asks_every_network_about_every_others_images(mixture, twins, digits):
    images, labels = digits.test.first(60)
    attack = attacks.PGD(attacks.Threat("linf", 0.05), steps=3)
    matrix, _ = transfer(mixture, images, labels, attack, 0)
    own = [mixture[i : i + 1] for i in range(3)]
    for i, j in permutations(range(3), 2):
        points = attack.perturb(own[i], images[None], labels, [0])
        right = own[j](points)[0].argmax(-1) == labels
        assert matrix[i, j] == pytest.approx(float(right.float().mean()))
    assert transfer(twins, images, labels, attack, 0)[1] == pytest.approx(1)
