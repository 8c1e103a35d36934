import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import attacks
import targets
from attacks import (
    FGSM,
    PGD,
    UNIVERSAL,
    AttackError,
    Threat,
    UniversalDeepFool,
    UniversalGradient,
    perturbed,
)
from hypergen.evaluation.transfer import MixedPopulation, carried_over, fooling_rates
from hypergen.measures.attacked import attack_population
from hypergen.runtime import crew
from hypergen.storage.weights import load_network
from targets import Population

THREAT = Threat("linf", 0.05)
COUNT = 60
SOURCES = ["pgd", "apgd-ce", "standard", *UNIVERSAL]


def noisy(path, size: float, seed: int = 0) -> nn.Module:
    """A network like that of the file."""
    module, generator = load_network(path), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += size * torch.randn(parameter.shape, generator=generator)
    return module


@pytest.fixture
def pair(base) -> list[nn.Module]:
    return [load_network(base), noisy(base, 0.03)]


@pytest.fixture
def rates(digits, cpu):
    """Accuracy and the matrix, of modules under a source."""

    def measure(modules, source, count=COUNT):
        return fooling_rates(MixedPopulation(modules, cpu), source, digits, count, 0)

    return measure


def made(name: str, threat: Threat = THREAT) -> attacks.Attack | attacks.Universal:
    """A small source."""
    if name == "universal-deepfool":
        return UniversalDeepFool(threat, passes=1)
    if name == "universal-gradient":
        return UniversalGradient(threat, passes=2, batch=10)
    options = {
        "pgd": {"steps": 5, "restarts": 2},
        "apgd-ce": {"steps": 5},
        "standard": {"steps": 2, "queries": 10},
    }
    return attacks.build(name, threat, **options[name])


def fooled_share(module: nn.Module, images, points, labels) -> float:
    with torch.no_grad():
        right = module(images).argmax(1) == labels
        return float((right & (module(points).argmax(1) != labels)).double().mean())


def test_every_pair_of_networks_whatever_their_architecture(pair, rates, digits):
    """FGSM in a line of plain PyTorch."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cnn = targets.build("fbf-cnn", input_shape=(1, 8, 8)).eval()
    modules = [pair[0], cnn, pair[1]]
    images, labels = digits.test.first(300)  # more than one batch
    accuracy, matrix = rates(modules, FGSM(THREAT), 300)
    for i, one in enumerate(modules):
        x = images.clone().requires_grad_()
        F.cross_entropy(one(x), labels, reduction="sum").backward()
        points = (images + THREAT.epsilon * x.grad.sign()).clamp(0, 1)
        expected = [fooled_share(other, images, points, labels) for other in modules]
        assert matrix[i].tolist() == pytest.approx(expected, abs=1.01 / 300)
        right = (one(images).argmax(1) == labels).double().mean()
        assert float(accuracy[i]) == pytest.approx(float(right))
    assert matrix[0, 0] > matrix[1, 0] + 0.1, "the problem no longer tells anything"


def test_against_itself_is_the_ordinary_evaluation(pair, rates, digits):
    attack = made("pgd")
    accuracy, matrix = rates(pair, attack)
    left = attack_population(Population.of(pair), *digits.test.first(COUNT), attack, 0)
    assert torch.allclose(accuracy, left.clean.double().mean(1))
    robust = left.robust.double().mean(1)
    assert torch.allclose(matrix.diagonal(), accuracy - robust)
    assert (matrix.diagonal() > 0.1).all() and (robust > 0).any()


@pytest.mark.parametrize("name", SOURCES)
def test_equal_networks_are_fooled_alike(name, base, rates):
    modules = [load_network(base) for _ in range(3)]
    _, matrix = rates(modules, made(name, Threat("linf", 0.2)))
    assert (matrix == matrix[0, 0]).all() and matrix[0, 0] > 0


def test_what_carries_over_is_relative_to_what_was_done():
    matrix = torch.tensor([[0.8, 0.4, 0.2], [0.1, 0.1, 0.0], [0.0, 0.0, 0.0]], dtype=torch.double)
    # A half and a quarter of the first's, all and none of the second's; the third fools no one.
    assert carried_over(matrix) == pytest.approx((0.5 + 0.25 + 1 + 0 + 0 + 0) / 6)
    assert carried_over(torch.full((4, 4), 0.3, dtype=torch.double)) == pytest.approx(1)


@pytest.mark.parametrize("name", SOURCES)
def test_without_room_nothing_is_fooled(name, pair, rates):
    assert not rates(pair, made(name, Threat("linf", 0.0)))[1].any()


@pytest.mark.parametrize("name", SOURCES)
def test_a_pair_fares_alike_in_any_company(name, pair, base, rates):
    _, matrix = rates(pair, made(name))
    _, larger = rates([noisy(base, 0.05, 1), *pair], made(name))
    assert torch.equal(larger[1:, 1:], matrix)


@pytest.mark.parametrize("name", UNIVERSAL)
def test_a_universal_perturbation_comes_from_training_images(name, pair, rates, digits):
    source = made(name)
    _, matrix = rates(pair, source)
    images, labels = digits.test.first(COUNT)
    seen, truth = digits.train.first(COUNT)
    for i, one in enumerate(pair):
        perturbation = source.fit(Population.of([one]), seen[None], truth, [0])
        points = perturbed(images[None], perturbation)[0]
        expected = [fooled_share(other, images, points, labels) for other in pair]
        assert matrix[i].tolist() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["pgd", "universal-gradient"])
def test_helpers_find_what_one_process_does(name, pair, rates, monkeypatch):
    """Here they do every job; what fails at a helper would be done again, and not be seen."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        modules = [pair[0], targets.build("fbf-cnn", input_shape=(1, 8, 8)).eval(), pair[1]]
    accuracy, matrix = rates(modules, made(name))

    def mapped(function, jobs, workers, remote, received):
        sent = pickle.loads(pickle.dumps(remote))
        done = [sent(None, number) for number in range(len(jobs))]
        for job, found in zip(jobs, done, strict=True):
            received(job, found)
        return done

    monkeypatch.setattr(crew, "mapped", mapped)
    again = rates(modules, made(name))
    assert again[0].equal(accuracy) and again[1].equal(matrix) and matrix.any()


def test_what_only_just_fools_one_network_is_not_what_is_tried_on_others(base, rates, digits):
    modules = [load_network(base), noisy(base, 0.05)]
    attack = PGD(THREAT, steps=10)
    _, matrix = rates(modules, attack)
    images, labels = digits.test.first(COUNT)
    just = attack(Population.of(modules[:1]), images[None], labels, [0]).images[0]
    assert matrix[0, 1] > fooled_share(modules[1], images, just, labels)


@pytest.mark.parametrize("name", ["pgd", "universal-gradient"])
def test_networks_without_numbers_are_told_as_they_are_counted(name, pair, base, rates):
    """In any company, among two architectures: the index is that of the list."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        cnn = targets.build("fbf-cnn", input_shape=(1, 8, 8)).eval()
    for size in (float("nan"), 1e30):
        sick = load_network(base)
        with torch.no_grad():
            for parameter in sick.parameters():
                parameter *= size
        with pytest.raises(AttackError) as caught:
            rates([cnn, pair[0], sick, pair[1]], made(name), 20)
        assert list(caught.value.networks) == [2]
