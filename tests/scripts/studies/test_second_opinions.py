"""Other implementations of the measures, held against ours: neither was written from the other."""

import pytest
import torch

import attacks
from hypergen.data import load
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import Stage, build_measure, judged
from scripts.studies import second_opinions
from targets import Population, build

THREAT = attacks.Threat("linf", 0.1)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    """A network that is right about most images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build("small-lenet5", "relu", 10, digits.input_shape)
        optimizer, rng = torch.optim.Adam(module.parameters(), 0.003), torch.Generator()
        for images, labels in digits.train.batches(64, rng):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(module(images), labels).backward()
            optimizer.step()
    return module.eval()


def ours(asked, module, images, labels):
    measure = build_measure(MeasureSpec.parse(f"{asked}=1"), THREAT)
    stage = Stage(lambda threat: attacks.PGD(threat, steps=2), seed=0)
    return float(judged([measure], Population.of([module]), images, labels, stage))


@pytest.mark.parametrize(
    "asked",
    [
        "pruned:share=0.9",
        "int8:bits=2",
        "int8:bits=4",
        "contrast:factor=0.15",
        "worst-class",
        "calibration",
    ],
)
def test_both_say_the_same(asked, trained, digits):
    images, labels = digits.test.first(300)
    other = second_opinions.second_opinion(asked, THREAT.epsilon)(trained, images, labels)
    assert other == pytest.approx(ours(asked, trained, images, labels), abs=1e-5)


def test_noise_of_other_draws_says_about_the_same(trained, digits):
    """As the mean of many draws, each of our own with another seed."""
    images, labels = digits.test.first(300)
    measure = build_measure(MeasureSpec.parse("weight-noise:std=0.3=1"), THREAT)
    draws = [
        judged(
            [measure], Population.of([trained]), images, labels, Stage(attacks.PGD, seed=seed)
        ).item()
        for seed in range(20)
    ]
    mean, spread = torch.tensor(draws).mean(), torch.tensor(draws).std()
    other = second_opinions.second_opinion("weight-noise:std=0.3", 0.1)(trained, images, labels)
    error = float(spread) * (1 / 20 + 1 / second_opinions.DRAWS) ** 0.5
    assert abs(other - float(mean)) < 4 * error


@pytest.mark.slow  # 1,000 queries an image
def test_squares_of_both_break_about_the_same(trained, digits, monkeypatch):
    monkeypatch.setattr(second_opinions, "QUERIES", 100)
    images, labels = digits.test.first(30)
    other = second_opinions.second_opinion("square", 0.1)(trained, images, labels)
    own = ours("square", trained, images, labels)  # judged by 1,000
    assert own - 0.04 <= other <= second_opinions.accuracy(trained, images, labels)
