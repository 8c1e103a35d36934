"""Networks broken on purpose are found out, each for its own reason; sound ones pass."""

import pytest
import torch
from torch import Tensor, nn

import attacks
from hypergen.baseline import BaselineConfig, train_baseline
from hypergen.checks import CHECKS, Case, check
from targets import Population, build

THREAT = attacks.Threat("linf", 0.1)
IMAGES = 60


class Scaled(nn.Module):
    """Logits so large that soft-max is 0 or 1 to the last bit."""

    def forward(self, logits: Tensor) -> Tensor:
        return 1e5 * logits


class Quantised(nn.Module):
    """Few levels, as a JPEG or a small number format leaves: no gradient anywhere."""

    def forward(self, values: Tensor) -> Tensor:
        return (8 * values).round() / 8


class Winners(nn.Module):
    """k-WTA: the largest fifth passes, the rest is 0."""

    def forward(self, values: Tensor) -> Tensor:
        flat = values.flatten(1)
        least = flat.topk(max(1, flat.shape[1] // 5), dim=1).values[:, -1:]
        return torch.where(flat >= least, flat, 0).view_as(values)


class Noisy(nn.Module):
    """Adds noise to the image, other noise at every call."""

    def forward(self, images: Tensor) -> Tensor:
        return images + 0.3 * torch.randn_like(images)


@pytest.fixture(scope="module")
def trained(digits):
    """An ordinary and an FBF-trained network."""
    return {
        method: train_baseline(
            BaselineConfig(method=method, target="mlp", epochs=6),
            digits,
            torch.device("cpu"),
            show=False,
        )
        for method in ("standard", "fbf")
    }


@pytest.fixture
def report(digits):
    """What is said of networks."""

    def look(*networks: nn.Module):
        torch.manual_seed(0)
        population = Population.of(networks)
        return check(Case(population, *digits.test.first(IMAGES), THREAT))

    return look


def test_sound_networks_pass(trained, report):
    for found in report(*trained.values()):
        assert found["verdict"] == "passed", found["reasons"]
        assert found["checks"].keys() == CHECKS.keys() and found["reasons"] == []


@pytest.mark.parametrize(
    ("broken", "verdict", "by"),
    [
        (lambda net: nn.Sequential(net, Scaled()), "masked", {"losses", "logits"}),
        (lambda net: nn.Sequential(Quantised(), net), "masked", {"gradient", "gradient-free"}),
        (lambda net: nn.Sequential(Noisy(), net), "masked", {"randomness"}),
        (lambda net: nn.Sequential(net, nn.Softmax(-1)), "suspicious", {"logits"}),
    ],
    ids=["scaled", "quantised", "noisy", "probabilities"],
)
def test_a_network_broken_afterwards_is_found_out(trained, report, broken, verdict, by):
    (found,) = report(broken(trained["standard"]))
    assert found["verdict"] == verdict
    assert by <= {reason.split(":")[0] for reason in found["reasons"]}


def test_winners_take_all_is_found_out(digits, report):
    """Trained ordinarily; its gradients lead PGD astray, and Square shows it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), Winners(), nn.Linear(256, 10))
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        images, labels = digits.train.first(1000)
        for _ in range(15):
            for batch in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
    (found,) = report(net)
    assert found["verdict"] != "passed"
    assert [reason.split(":")[0] for reason in found["reasons"]] == ["gradient-free"]


def test_activations_outside_the_dictionary_of_their_kaf_are_found_out(digits):
    """Scaled up before its KAF, a network answers as if its neurons were dead."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sound, pushed = build("mlp", "kaf-elu"), build("mlp", "kaf-elu")
    pushed.layers[0].weight.data *= 100
    case = Case(Population.of([sound, pushed]), *digits.test.first(IMAGES), THREAT)
    passed, found = CHECKS["kaf range"](case)
    assert passed.verdict == "passed" and passed.figures["share"] < 0.01
    assert found.verdict == "suspicious" and found.figures["share"] > 0.5
    assert "outside the dictionary" in found.reason
    assert len(found.figures["by_layer"]) == 1
