import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attacks
import targets
from hypergen.errors import RunError
from hypergen.measures import Batch, FunctionMeasure
from hypergen.models.value_network import (
    EnsembleValueNetwork,
    ValueNetwork,
    build_value_network,
    of_behaviour,
)
from targets import Population
from tests.hypergen.batches import ACCURACY, PAIR, ROBUSTNESS, attacked_batch

KINDS = ["set", "mlp", "statistics", "probe", "set x 3"]
THREAT = attacks.Threat("linf", 0.05)


class Linear(nn.Module):
    """650 weights."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images.flatten(1))


@pytest.fixture(scope="module")
def sixteen(digits) -> Population:
    """Linear classifiers from untrained to trained."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Linear()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
        images, labels = digits.train.first(500)
        snapshots = []
        for _ in range(16):
            flat = [p.detach().flatten() for p in network.parameters()]
            snapshots.append(torch.cat(flat).clone())
            for _ in range(2):
                optimizer.zero_grad()
                F.cross_entropy(network(images), labels).backward()
                optimizer.step()
    return Population(network, torch.stack(snapshots))


@pytest.fixture(scope="module")
def batch(sixteen, digits) -> Batch:
    images, labels = digits.val.first(40)
    return attacked_batch(sixteen, images, labels, attacks.PGD(THREAT, steps=3), 0)


@pytest.fixture(scope="module")
def measured(sixteen, digits) -> Tensor:
    """Accuracy and robustness on other images, [16,2]."""
    fresh = attacked_batch(sixteen, *digits.train.first(100), attacks.PGD(THREAT, steps=5), 0)
    figures = torch.stack([measure(sixteen, fresh) for measure in PAIR], dim=-1)
    assert figures.std(0).min() > 0.1  # so that there is something to learn
    return figures


def build(kind: str) -> ValueNetwork:
    torch.manual_seed(0)
    name, _, members = kind.partition(" x ")
    return build_value_network(name, Linear(), (1, 8, 8), 10, PAIR, int(members or 1))


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_what_was_measured(kind, sixteen, batch, measured):
    value = build(kind)
    with torch.no_grad():
        features = value.features(sixteen, batch)
    optimizer = torch.optim.Adam(value.parameters(), lr=3e-3)
    for step in range(300):
        optimizer.zero_grad()
        value.loss(features, measured).backward()
        optimizer.step()
        if step % 10 == 0 and (value(features) - measured).square().mean().sqrt() < 0.05:
            return
    pytest.fail("300 steps were not enough")


@pytest.mark.parametrize("kind", KINDS)
def test_estimates_lie_in_0_1_and_one_network_is_as_good_alone(kind, sixteen, batch):
    value = build(kind)
    features = value.features(sixteen, batch)
    estimates = value(features)
    assert estimates.shape == (16, 2)
    assert estimates.min() > 0 and estimates.max() < 1
    extreme = value(features * 1e6)
    assert extreme.min() >= 0 and extreme.max() <= 1
    alone = value(value.features(sixteen[3:4], batch.for_networks(slice(3, 4))))
    torch.testing.assert_close(alone, estimates[3:4])


def test_set_looks_at_log_probability_and_relative_margin(sixteen, batch):
    features = build("set").features(sixteen, batch)
    assert features.shape == (16, 40, 4)
    network = sixteen[7]
    for first, images in ((0, batch.images), (2, batch.prepared["robustness"][7])):
        logits = network(images)
        for image in range(40):
            row, label = logits[image], int(batch.labels[image])
            others = torch.cat([row[:label], row[label + 1 :]])
            by_hand = torch.stack(
                [row.log_softmax(0)[label], (row[label] - others.max()) / row.std()]
            )
            torch.testing.assert_close(features[7, image, first : first + 2], by_hand)


def test_the_generators_objective_without_margin_never_says_more_than_the_estimate(
    sixteen, batch, monkeypatch
):
    """By Jensen's inequality; with equal images there is nothing between the two."""
    monkeypatch.setattr(of_behaviour, "MARGINS", (0.0,))
    value = build("set")
    features = value.features(sixteen, batch)
    assert (value.generator_objective(features) < value(features).log()).all()
    same = features[:, :1].expand(-1, 40, -1)
    torch.testing.assert_close(value.generator_objective(same), value(same).log())
    flat = build("mlp")
    assert flat.generator_objective(sixteen.theta).equal(flat(sixteen.theta))


def test_the_generators_objective_asks_for_margin_where_the_estimate_is_content(sixteen, batch):
    """A V that sees right and wrong alone: flat where an image is right, in its estimate."""
    value = build("set")
    sharp = nn.Linear(2, 2)
    with torch.no_grad():
        sharp.weight.zero_()
        sharp.weight[:, 1] = 1000.0
        sharp.bias.zero_()
    value.layers = nn.Sequential(sharp)
    features = torch.zeros(1, 4, 4)
    features[0, :, 1] = features[0, :, 3] = torch.tensor([-0.1, 0.15, 0.5, 9])
    features.requires_grad_()
    (of_estimate,) = torch.autograd.grad(value(features).sum(), features)
    assert of_estimate[0, 1].eq(0).all()
    (asked,) = torch.autograd.grad(value.generator_objective(features).sum(), features)
    # The wrong image lies below all six margins, the next ones below four, two and none of them.
    torch.testing.assert_close(asked[0, :, 1], 1000 / 4 * torch.tensor([1, 2 / 3, 1 / 3, 0]))
    assert asked[..., 0].eq(0).all() and asked[..., 3].equal(asked[..., 1])


def test_the_generators_objective_moves_only_the_images_that_a_measure_is_taken_on(sixteen, batch):
    value = build("set")
    features = value.features(sixteen, batch).detach().requires_grad_()
    accuracy, robustness = value.generator_objective(features).sum(0)
    (of_accuracy,) = torch.autograd.grad(accuracy, features, retain_graph=True)
    (of_robustness,) = torch.autograd.grad(robustness, features)
    assert of_accuracy[..., 2:].eq(0).all() and of_accuracy[..., :2].ne(0).any()
    assert of_robustness[..., :2].eq(0).all() and of_robustness[..., 2:].ne(0).any()


def test_members_of_an_ensemble_learn_each_for_itself(sixteen, batch):
    ensemble = build("set x 3")
    assert isinstance(ensemble, EnsembleValueNetwork)
    features, measured = ensemble.features(sixteen, batch), torch.rand(16, 2)
    estimates = ensemble.member_estimates(features)
    assert not estimates[0].allclose(estimates[1]) and not estimates[1].allclose(estimates[2])
    ensemble.loss(features, measured).backward()
    for index, member in enumerate(ensemble.members):
        alone = build("set")
        alone.load_state_dict(member.state_dict())
        torch.testing.assert_close(alone(features), estimates[index])
        alone.loss(features, measured).backward()
        for mine, its in zip(member.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(mine.grad, its.grad)
    torch.testing.assert_close(ensemble(features), estimates.mean(0))
    objectives = [member.generator_objective(features) for member in ensemble.members]
    torch.testing.assert_close(ensemble.generator_objective(features), sum(objectives) / 3)
    spread = estimates.detach().numpy().std(0)
    torch.testing.assert_close(ensemble.uncertainty(features).detach().numpy(), spread)


def test_members_that_agree_are_certain(sixteen, batch):
    ensemble = build("statistics x 2")
    features = ensemble.features(sixteen, batch)
    assert (ensemble.uncertainty(features) > 0).all()
    first, second = ensemble.members
    second.load_state_dict(first.state_dict())
    assert ensemble.uncertainty(features).abs().max() < 1e-6
    assert build("statistics").uncertainty(features).eq(0).all()


def test_statistics_are_those_of_each_tensor(sixteen, batch):
    value = build("statistics")
    features = value.features(sixteen, batch)
    assert features.shape == (16, 2 * 7)
    network = sixteen[5]
    for index, tensor in enumerate((network.layer.weight, network.layer.bias)):
        scaled = (tensor.detach() * 64**0.5).flatten()
        by_hand = [scaled.mean(), scaled.std(correction=0)]
        by_hand += [scaled.quantile(q) for q in (0, 0.25, 0.5, 0.75, 1)]
        torch.testing.assert_close(features[5, 7 * index : 7 * index + 7], torch.stack(by_hand))


def test_probes_see_the_networks_and_nothing_else(sixteen, batch):
    value = build("probe")
    other = Batch(
        torch.zeros_like(batch.images),
        batch.labels,
        {"robustness": torch.zeros_like(batch.prepared["robustness"])},
    )
    estimates = value(value.features(sixteen, batch))
    assert value(value.features(sixteen, other)).equal(estimates)
    images = value.images.sigmoid()
    answers = sixteen[3](images).softmax(-1).flatten()
    torch.testing.assert_close(value.layers(answers), estimates[3])
    assert not any("target" in name for name in value.state_dict())


def test_probes_normalise_by_their_batch_as_ordinary_training_does(in_training):
    torch.manual_seed(0)
    module = targets.build("light-cnn", input_shape=(1, 8, 8))
    value = build_value_network("probe", module, (1, 8, 8), 10, PAIR)
    population = Population.of([module])
    theta = population.theta.clone().requires_grad_()
    estimates = value(theta)
    (found,) = torch.autograd.grad(estimates.sum(), theta)
    plain = in_training(population[0])
    by_hand = value.layers(plain(value.images.sigmoid()).softmax(-1).flatten())
    torch.testing.assert_close(estimates[0], by_hand)
    own = torch.autograd.grad(by_hand.sum(), list(plain.parameters()))
    own = torch.cat([g.flatten() for g in own])
    torch.testing.assert_close(found[0], own, rtol=1e-4, atol=1e-7)


def test_set_does_not_care_for_the_order_of_images(sixteen, batch):
    value = build("set")
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    shuffled = Batch(
        batch.images[order],
        batch.labels[order],
        {"robustness": batch.prepared["robustness"][:, order]},
    )
    torch.testing.assert_close(
        value(value.features(sixteen, shuffled)), value(value.features(sixteen, batch))
    )


def test_larger_logits_alone_do_not_move_the_margins(sixteen, batch):
    value = build("set")
    once = value.features(sixteen, batch)
    louder = value.features(sixteen.with_theta(sixteen.theta * 100), batch)
    torch.testing.assert_close(louder[..., 1::2], once[..., 1::2], rtol=1e-3, atol=1e-4)
    assert not louder[..., 0::2].allclose(once[..., 0::2])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_the_weights_and_are_right(kind, sixteen, batch):
    """Against a central difference along one direction, in double precision."""
    value = build(kind).double()
    double = Batch(
        batch.images.double(), batch.labels, {"robustness": batch.prepared["robustness"].double()}
    )
    theta = sixteen.theta.double()

    def estimates(weights: Tensor) -> Tensor:
        return value(value.features(sixteen.with_theta(weights), double))[:, 1].sum()

    leaf = theta.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(estimates(leaf), leaf)
    assert (gradient != 0).any(1).all()
    direction = torch.randn(theta.shape, dtype=torch.double)
    step = 1e-6
    with torch.no_grad():
        up, down = estimates(theta + step * direction), estimates(theta - step * direction)
    slope = (up - down) / (2 * step)
    torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("kind", ["set", "mlp"])
def test_estimates_that_are_no_numbers_are_a_failed_run(kind, sixteen, batch):
    value = build(kind)
    features = value.features(sixteen, batch)
    next(value.parameters()).data.fill_(float("nan"))
    with pytest.raises(RunError, match="the value network's estimates are NaN"):
        value.loss(features, torch.rand(16, 2))


@pytest.mark.parametrize("kind", ["set", "mlp", "set x 3"])
def test_what_was_not_measured_adds_nothing_to_the_loss(kind, sixteen, batch):
    """The mean over the known entries of -log of the chance of what was measured, or of squares."""
    value = build(kind)
    features = value.features(sixteen, batch).detach()
    measured = torch.rand(16, 2)
    unknown = torch.rand(16, 2) < 0.4
    assert 5 < unknown.sum() < 25
    losses = []
    for member in getattr(value, "members", [value]):
        estimates = member(features)
        likelihood = measured * estimates.log() + (1 - measured) * (1 - estimates).log()
        squares = (estimates - measured).square()
        losses.append((squares if kind == "mlp" else -likelihood)[~unknown].mean())
    loss = value.loss(features, measured.masked_fill(unknown, float("nan")))
    torch.testing.assert_close(loss, sum(losses))
    found = torch.autograd.grad(loss, list(value.parameters()), retain_graph=True)
    expected = torch.autograd.grad(sum(losses), list(value.parameters()))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_black_boxes_stand_in_their_places_and_follow_the_images(sixteen, batch):
    """Between two others; what they are estimated from is the clean images, in any order."""

    def box(population, images, labels):
        return torch.zeros(len(population))

    named = FunctionMeasure(box, {})
    named.name = "box"
    torch.manual_seed(0)
    value = build_value_network(
        "set", Linear(), (1, 8, 8), 10, (ACCURACY, named, ROBUSTNESS), members=1
    )
    features = value.features(sixteen, batch)
    assert features.shape == (16, 40, 8)
    estimates, asked = value(features), value.generator_objective(features)
    assert estimates.shape == asked.shape == (16, 3)
    torch.testing.assert_close(asked[:, 1], estimates[:, 1].log())
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(value(features[:, order]), estimates)
    moved = features.clone()
    moved[..., 4:] += 1  # of the boxes alone
    moved[..., 7] = features[..., 7]  # the classes
    assert value(moved)[:, [0, 2]].equal(estimates[:, [0, 2]])
    assert not value(moved)[:, 1].equal(estimates[:, 1])
