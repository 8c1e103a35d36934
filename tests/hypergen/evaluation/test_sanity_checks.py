"""Networks broken on purpose are found out, each for its own reason; sound ones pass."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import attacks
from hypergen.evaluation.sanity_checks import CHECKS, CheckContext, check
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from targets import Population, build

THREAT = attacks.Threat("linf", 0.05)
IMAGES = 60


class Scaled(nn.Module):
    """Logits so large that soft-max is 0 or 1 to the last bit."""

    def forward(self, logits: Tensor) -> Tensor:
        return 1e5 * logits


class Quantised(nn.Module):
    """Few levels, as a JPEG or a small number format leaves: no gradient anywhere."""

    def forward(self, values: Tensor) -> Tensor:
        return (8 * values).round() / 8


class Switched(Quantised):
    """Quantised where the flag is 1, the identity where it is 0."""

    def __init__(self, flag: float):
        super().__init__()
        self.flag = nn.Parameter(torch.tensor([flag]))

    def forward(self, values: Tensor) -> Tensor:
        return self.flag * super().forward(values) + (1 - self.flag) * values


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
    configs = [
        BaselineConfig(method=method, target="mlp", epochs=12) for method in ("standard", "fbf")
    ]
    cpu = torch.device("cpu")
    return {each.method: train_direct(DirectTrainer(each, digits, cpu)) for each in configs}


@pytest.fixture
def report(digits):
    """What is said of networks."""

    def look(*networks: nn.Module):
        torch.manual_seed(0)
        population = Population.of(networks)
        return check(CheckContext(population, *digits.test.first(IMAGES), THREAT))

    return look


def test_sound_networks_pass(trained, report):
    for found in report(*trained.values()):
        assert found["verdict"] == "passed", found["reasons"]
        assert found["checks"].keys() == CHECKS.keys() and found["reasons"] == []


WIDE = 100


class Given(CheckContext):
    """What each attack leaves is given by hand, by `left`."""

    left: Callable[[attacks.Attack], Tensor]

    def robust_mask(self, attack: attacks.Attack) -> Tensor:
        return self.left(attack)


def given(networks: list[nn.Module], left: Callable[[attacks.Attack], Tensor]) -> CheckContext:
    images, labels = torch.rand(WIDE, 1, 8, 8), torch.zeros(WIDE, dtype=torch.int64)
    context = Given(Population.of(networks), images, labels, THREAT)
    context.left = left
    return context


@pytest.mark.parametrize(
    ("name", "tells", "limits"),
    [
        ("one step", lambda attack: attack == attacks.FGSM(THREAT), (0.01, 0.05)),
        ("gradient-free", lambda attack: isinstance(attack, attacks.Square), (0.05, 0.1)),
        ("noise", lambda attack: attack == attacks.build("noise", THREAT), (0.01, 0.05)),
        ("losses", lambda attack: attack == attacks.PGD(THREAT, loss="margin"), (0.1, 0.25)),
        ("steps", lambda attack: attack == attacks.PGD(THREAT, steps=100), (0.03, 0.1)),
        ("restarts", lambda attack: attack == attacks.PGD(THREAT, restarts=5), (0.05, 0.15)),
        ("radius", lambda attack: attack.threat.epsilon == 0.25 * 0.05, (0.02, 0.1)),
    ],
)
def test_what_one_attack_alone_breaks_is_counted(name, tells, limits, networks):
    """Of what each attack leaves, given by hand: the first network loses some to one attack."""
    few = round(WIDE * limits[0])
    for broken, verdict in (
        (few - 1, "passed"),
        (few + 1, "suspicious"),
        (round(WIDE * limits[1]) + 1, "masked"),
    ):

        def left(attack: attacks.Attack, broken: int = broken) -> Tensor:
            table = torch.ones(2, WIDE, dtype=torch.bool)
            table[0, : broken if tells(attack) else 0] = False
            return table

        found, other = CHECKS[name](given(networks[:2], left))
        assert found.metrics["share"] == pytest.approx(broken / WIDE, abs=1e-6)
        assert found.verdict == verdict
        assert other.verdict == "passed" and other.metrics["share"] == 0


def test_what_survives_without_bound_is_counted(networks):
    def left(attack: attacks.Attack) -> Tensor:
        assert attack.threat.epsilon == pytest.approx(1.0)  # no pixel is further from any other
        return torch.arange(WIDE).expand(1, -1) < 5

    (found,) = CHECKS["boundless"](given(networks[:1], left))
    assert found.metrics["share"] == pytest.approx(0.05) and found.verdict == "suspicious"


def test_what_was_made_for_another_network_is_tried(trained, digits):
    """The same network twice, once without a gradient: what fools the one fools the other."""

    def hidden(flag: float) -> nn.Module:
        return nn.Sequential(Switched(flag), copy.deepcopy(trained["standard"]))

    population = Population.of([hidden(0.0), hidden(1.0)])
    context = CheckContext(population, *digits.test.first(IMAGES), THREAT)
    sound, masked = CHECKS["transfer"](context)
    assert sound.verdict == "passed" and masked.verdict == "masked"
    assert masked.metrics["share"] > 0.2
    (alone,) = CHECKS["transfer"](CheckContext(population[1:], *digits.test.first(IMAGES), THREAT))
    assert alone.verdict == "passed"  # nothing to try


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


def test_winners_take_all_is_found_out(large_digits):
    """Trained ordinarily; its gradients lead PGD astray, and Square shows it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(784, 256), Winners(), nn.Linear(256, 10))
        optimizer = torch.optim.Adam(net.parameters(), 3e-3)
        images, labels = large_digits.train.first(1000)
        for _ in range(15):
            for batch in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
    torch.manual_seed(0)
    threat = attacks.Threat("linf", 0.1)
    context = CheckContext(Population.of([net]), *large_digits.test.first(IMAGES), threat)
    (found,) = check(context)
    assert found["verdict"] != "passed"
    assert [reason.split(":")[0] for reason in found["reasons"]] == ["gradient-free"]


def test_activations_outside_the_dictionary_of_their_kaf_are_found_out(digits):
    """Scaled up before its KAF, a network answers as if its neurons were dead."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sound, pushed = (build("mlp", "kaf-elu", input_shape=(1, 8, 8)) for _ in range(2))
    pushed.layers[0].weight.data *= 100
    context = CheckContext(Population.of([sound, pushed]), *digits.test.first(IMAGES), THREAT)
    passed, found = CHECKS["kaf range"](context)
    assert passed.verdict == "passed" and passed.metrics["share"] < 0.01
    assert found.verdict == "suspicious" and found.metrics["share"] > 0.5
    assert "outside the dictionary" in found.reason
    assert len(found.metrics["by_layer"]) == 1
