"""What all measures share: checked figures, batches, and training with black boxes."""

import pytest
import torch

from hypergen.catalog import MEASURES
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measure_spec import MeasureSpec
from hypergen.measures import (
    Accuracy,
    Batch,
    answered,
    build_measure,
    build_measures,
    measured,
    strict,
)
from hypergen.measures.base import FunctionMeasure
from hypergen.models.value_network.of_behaviour import SetValueNetwork
from hypergen.training.trainer import Trainer


def black_box(function, name="box"):
    measure = FunctionMeasure(function, {})
    measure.name = name
    return measure


def fails(population, images, labels):
    raise ValueError("what it says\nand more")


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda p, x, y: torch.tensor([0.1, 1.2, 0.3]), r"lie in \[0,1\], got 1.2 for network 1"),
        (lambda p, x, y: torch.tensor([0.1, 0.2, -0.3]), "got -0.3 for network 2"),
        (lambda p, x, y: torch.tensor([float("nan"), 0.2, 0.3]), "got nan for network 0"),
        (lambda p, x, y: torch.tensor(0.5), r"one number for each of 3 networks, got shape \[\]"),
        (lambda p, x, y: torch.zeros(3, 5), r"got shape \[3, 5\]"),
        (lambda p, x, y: None, "box failed: TypeError: it returns nothing"),
        (fails, "the measure box failed: ValueError: what it says$"),
    ],
)
def test_wrong_figures_are_told_in_one_line(function, reason, mixture, images):
    with pytest.raises(InputError, match=reason) as told:
        measured([black_box(function)], mixture, Batch(*images))
    assert "\n" not in str(told.value) and "box" in str(told.value)


def test_memory_that_runs_out_is_no_fault_of_the_measure(mixture, images):
    def greedy(population, images, labels):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        measured([black_box(greedy)], mixture, Batch(*images))


def test_the_strict_form_keeps_the_name_and_its_faults_are_told():
    class Own(Accuracy):
        def strict(self):
            return Own()

    class Broken(Accuracy):
        def strict(self):
            raise KeyError("budget")

    own, broken = Own(), Broken()
    own.name, broken.name = "mine:a=1", "mine:a=2"
    assert strict(own).name == "mine:a=1"
    with pytest.raises(InputError, match="the measure mine:a=2 failed: KeyError: 'budget'"):
        strict(broken)


@pytest.mark.parametrize("name", ["pgd", "sra", "kind", "z"])
def test_a_measure_cannot_be_called_as_something_else_in_results(name, threat, monkeypatch):
    monkeypatch.setitem(MEASURES._entries, name, lambda population, images, labels: None)
    with pytest.raises(InputError, match=f"call something else {name}"):
        build_measure(MeasureSpec.parse(f"{name}=1"), threat)


def test_figures_may_be_a_list_and_need_no_tensor(mixture, images):
    found = measured(
        [Accuracy(), black_box(lambda p, x, y: [0.0, 0.5, 1.0])], mixture, Batch(*images)
    )
    assert found[:, 1].tolist() == [0, 0.5, 1] and found.dtype == torch.float64


def test_black_boxes_are_not_differentiated(mixture, images):
    def asks(population, images, labels):
        logits = population(images.expand(len(population), *images.shape))
        assert not logits.requires_grad
        return logits.softmax(-1).amax(-1).mean(1)

    moving = mixture.with_theta(mixture.theta.detach().requires_grad_())
    assert not measured([black_box(asks)], moving, Batch(*images)).requires_grad


@pytest.fixture
def sure():
    """A registered black box: how sure networks are."""

    @MEASURES.register("sure")
    def sure(population, images, labels):
        logits = population(images.expand(len(population), *images.shape))
        return logits.softmax(-1).amax(-1).mean(1)

    yield "sure"
    MEASURES.drop("sure")


@pytest.mark.parametrize("objective", ["value", pytest.param("hybrid", marks=pytest.mark.slow)])
def test_a_black_box_alone_is_climbed_through_the_value_network(objective, sure, tiny, few, cpu):
    """From scratch networks are unsure; weighed alone, nothing else can have made them sure."""
    config = tiny.replace(
        objective=objective,
        measure=(f"{sure}=1",),
        steps=60,
        warmup=0.1,
        measure_every=1,
        replay_size=128,
        value_steps=8,
        learning_rate=1e-2,
        schedule="constant",
    )
    trainer = Trainer(config, few, cpu)
    figures = []
    while len(figures) < config.optimisation.steps and not sum(figures[-3:]) / 3 > 0.6:
        figures.append(trainer.take_step()[f"measured/{sure}"])
    assert sum(figures[:3]) / 3 < 0.3 and sum(figures[-3:]) / 3 > 0.6


def test_a_black_box_has_no_loss_to_descend(sure, tiny):
    with pytest.raises(InputError, match="sure has no loss to descend: use `objective` value"):
        build_measures(tiny.replace(objective="direct", measure=("accuracy=1", f"{sure}=1")))
    watched = tiny.replace(objective="direct", measure=("accuracy=1", f"{sure}=0"))
    assert [measure.name for measure in build_measures(watched)] == ["accuracy", sure]


def test_an_unknown_measure_is_told_with_the_nearest():
    with pytest.raises(
        InputError, match=r'unknown measure "acuracy" \(did you mean "accuracy"\?\)'
    ):
        build_measures(TrainConfig.of(measure=("acuracy=1",)))


def test_networks_answer_once_for_v_and_for_the_figures(mixture, images):
    asked = []

    class Counted(Accuracy):
        def logits(self, population, batch):
            asked.append(len(population))
            return super().logits(population, batch)

    measure, box = Counted(), black_box(lambda p, x, y: torch.zeros(len(p)))
    plain = Batch(*images)
    batch = answered([measure, box], mixture, plain)
    assert sum(asked) == len(mixture) and batch.logits.keys() == {"accuracy"}
    value = SetValueNetwork([measure, box], 10)
    features = value.features(mixture[1:], batch.for_networks(slice(1, None)))
    figures = measured([measure, box], mixture, batch)
    assert sum(asked) == len(mixture), "what is known is not asked again"
    assert features.equal(value.features(mixture, plain)[1:])
    assert figures.equal(measured([measure, box], mixture, plain))
