import math

import pytest
import torch
from torch.nn import functional as F

import attacks
import targets
from hypergen.measures import Batch
from hypergen.models.value_network import ValueNetwork, build_value_network
from hypergen.runtime import fitting
from hypergen.runtime.precision import Precision
from hypergen.training import objective
from targets import Population
from tests.hypergen.batches import PAIR, attacked_batch

ATTACK = attacks.PGD(attacks.Threat("linf", 0.1), steps=2)
WEIGHTS = torch.tensor([[1.0, 0.0], [0.7, 0.3], [0.0, 1.0]])


@pytest.fixture
def batch(population, digits) -> Batch:
    images, labels = digits.train.first(20)
    return attacked_batch(population, images, labels, ATTACK, 0)


def build(kind: str, population) -> ValueNetwork:
    torch.manual_seed(0)
    return build_value_network(kind, population[0], (1, 8, 8), 10, PAIR)


def features_of(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """What `set` looks at, by hand: log-probability of the true class, and its margin."""
    rows = []
    for row, label in zip(logits, labels.tolist(), strict=True):
        others = torch.cat([row[:label], row[label + 1 :]])
        rows.append(
            torch.stack([row.log_softmax(0)[label], (row[label] - others.max()) / row.std()])
        )
    return torch.stack(rows)


def gradient(kind, population, batch, value, weights=WEIGHTS):
    return objective.gradient(kind, population, batch, weights, value, PAIR)


@pytest.mark.parametrize(
    ("kind", "estimate"), [("set", math.log(0.5)), ("mlp", 0.5), ("statistics", 0.5)]
)
def test_a_constant_value_network_gives_no_gradient(kind, estimate, population, batch):
    value = build(kind, population)
    for weights in value.parameters():
        torch.nn.init.zeros_(weights)
    losses, found = gradient("value", population, batch, value)
    assert losses.tolist() == pytest.approx(
        [-estimate] * 3
    )  # of sigmoid(0), whatever the preference
    assert not found.any()


@pytest.mark.parametrize("kind", ["set", "mlp", "statistics", "probe"])
def test_there_is_no_way_around_the_value_networks_features(kind, population, batch, monkeypatch):
    value = build(kind, population)
    whole = type(value).features
    monkeypatch.setattr(type(value), "features", lambda *args: whole(*args).detach())
    with pytest.raises(RuntimeError, match="have been used in the graph"):
        gradient("value", population, batch, value)


def test_value_gradient_of_mlp_is_the_chain_rule_by_hand(population, batch):
    value = build("mlp", population)
    w1, b1, w2, b2, w3, b3 = (p.detach() for p in value.parameters())
    found = gradient("value", population, batch, value)[1]
    for theta, weights, row in zip(population.theta, WEIGHTS, found, strict=True):
        before1 = w1 @ theta + b1
        before2 = w2 @ F.leaky_relu(before1, 0.02) + b2
        estimates = torch.sigmoid(w3 @ F.leaky_relu(before2, 0.02) + b3)
        slope1, slope2 = ((b > 0).float() * 0.98 + 0.02 for b in (before1, before2))
        back = (-weights * estimates * (1 - estimates)) @ w3
        back = ((back * slope2) @ w2 * slope1) @ w1
        torch.testing.assert_close(row, back, rtol=1e-4, atol=1e-9)


def test_value_gradient_of_set_is_that_of_v_times_that_of_its_features(population, batch):
    value = build("set", population)
    found = gradient("value", population, batch, value)[1]
    theta = population.theta.clone().requires_grad_()
    features = value.features(population.with_theta(theta), batch)
    cut = features.detach().requires_grad_()
    (of_v,) = torch.autograd.grad(-(WEIGHTS * value.generator_objective(cut)).sum(), cut)
    (by_hand,) = torch.autograd.grad(features, theta, of_v)
    assert by_hand.any()
    torch.testing.assert_close(found, by_hand, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("objective_name", ["value", "direct", "hybrid"])
def test_the_value_network_receives_no_gradient(objective_name, population, batch):
    value = build("set", population)
    gradient(objective_name, population, batch, value)
    assert all(p.grad is None for p in value.parameters())


def test_direct_is_the_weighted_cross_entropy_of_plain_modules(networks, population, batch):
    losses, found = gradient("direct", population, batch, build("set", population))
    for index, (alpha, beta) in enumerate(WEIGHTS.tolist()):
        network = networks[index]
        network.zero_grad()
        clean = F.cross_entropy(network(batch.images), batch.labels)
        attacked = F.cross_entropy(network(batch.prepared["robustness"][index]), batch.labels)
        loss = alpha * clean + beta * attacked
        loss.backward()
        own = torch.cat([p.grad.flatten() for p in network.parameters()])
        torch.testing.assert_close(losses[index], loss.detach())
        torch.testing.assert_close(found[index], own, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("only", [0, 1])
def test_a_measure_without_weight_may_be_left_out(only, population, batch):
    value, weights = build("set", population), torch.zeros(3, 2)
    weights[:, only] = 1
    whole = gradient("direct", population, batch, value, weights)
    part = weights[:, only : only + 1], value, PAIR[only : only + 1]
    for one, other in zip(
        whole, objective.gradient("direct", population, batch, *part), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(("room", "expected"), [(1.5, [1, 1, 1]), (2.5, [2, 1]), (9, [3])])
def test_chunks_are_as_large_as_a_gpu_has_memory(room, expected, population, batch, monkeypatch):
    value, sizes, whole = build("set", population), [], objective.losses
    alone = gradient("hybrid", population, batch, value)

    def losses(kind, chunk, *rest):
        sizes.append(len(chunk))
        return whole(kind, chunk, *rest)

    memory = int(room * population.bytes_kept(batch.images) / fitting.KEPT_SHARE)
    monkeypatch.setattr(fitting, "gpu_memory", lambda device: memory)
    monkeypatch.setattr(objective, "losses", losses)
    found = gradient("hybrid", population, batch, value)
    assert sorted(sizes, reverse=True) == expected  # in whichever order two cores take them
    for one, other in zip(found, alone, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("kind", ["direct", "value", "hybrid"])
def test_batch_norm_is_by_the_batch_as_in_ordinary_training(kind, in_training):
    torch.manual_seed(0)
    images, labels = torch.rand(6, 1, 8, 8), torch.arange(6)
    module = targets.build("light-cnn", input_shape=(1, 8, 8))
    population = Population.of([module]).recalibrate(images)
    batch = Batch(images, labels, {"robustness": torch.rand(1, 6, 1, 8, 8)})
    value = build_value_network("set", population[0], (1, 8, 8), 10, PAIR)
    weights = torch.tensor([[0.3, 0.7]])
    losses, found = gradient(kind, population, batch, value, weights)
    plain = in_training(population[0])
    logits = [plain(x) for x in (images, batch.prepared["robustness"][0])]
    features = torch.cat([features_of(x, labels) for x in logits], -1)[None]
    clean, robust = (F.cross_entropy(x, labels) for x in logits)
    parts = {
        "direct": 0.3 * clean + 0.7 * robust,
        "value": -(weights * value.generator_objective(features)).sum(),
    }
    loss = sum(parts.values()) if kind == "hybrid" else parts[kind]
    loss.backward()
    own = torch.cat([p.grad.flatten() for p in plain.parameters()])
    torch.testing.assert_close(losses[0], loss.detach())
    torch.testing.assert_close(found[0], own, rtol=1e-4, atol=1e-6)


def test_few_bits_are_for_training_alone(digits, monkeypatch):
    """As on a GPU: there the population is evaluated by vmap, and convolutions in 16 bits."""
    torch.manual_seed(0)
    population = Population.of(
        targets.build("fbf-cnn", input_shape=(1, 8, 8)).eval() for _ in range(3)
    )
    images, labels = digits.train.first(20)
    value = build("set", population)
    monkeypatch.setattr(
        Population, "__call__", lambda self, images: self._vmap(self._tensors(), images)
    )

    def made(precision: Precision) -> list[torch.Tensor]:
        batches = [
            attacked_batch(population, images, labels, ATTACK, 0, each)
            for each in (precision, "float32")
        ]
        found = [
            objective.gradient(kind, population, batches[1], WEIGHTS, value, PAIR, precision)[1]
            for kind in ("direct", "value")
        ]
        return [*(batch.prepared["robustness"] for batch in batches), *found]

    full = made("float32")
    assert torch.equal(full[0], full[1])
    half = made("bf16")
    assert torch.equal(half[1], full[1]) and torch.equal(half[3], full[3])
    assert 0 < (half[0] != full[0]).float().mean() < 0.1
    assert not torch.equal(half[2], full[2])
    assert (F.cosine_similarity(half[2], full[2]) > 0.99).all()


@pytest.mark.parametrize("kind", ["set", "mlp"])
def test_hybrid_is_the_sum(kind, population, batch):
    value = build(kind, population)
    parts = [gradient(name, population, batch, value) for name in ("value", "direct")]
    losses, found = gradient("hybrid", population, batch, value)
    torch.testing.assert_close(losses, parts[0][0] + parts[1][0])
    torch.testing.assert_close(found, parts[0][1] + parts[1][1], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("objective_name", ["value", "direct", "hybrid"])
def test_packed_equals_alone(objective_name, population, batch):
    value = build("set", population)
    losses, found = gradient(objective_name, population, batch, value)
    for i in range(3):
        own = slice(i, i + 1)
        own_batch = batch.for_networks(own)
        alone = gradient(objective_name, population[own], own_batch, value, WEIGHTS[own])
        assert alone[0].equal(losses[own]) and alone[1].equal(found[own])
