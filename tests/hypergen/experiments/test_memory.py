"""Memory that is not there: told in one line, before anything is made of it."""

import copy
from dataclasses import replace

import pytest
import torch

from hypergen.budget import limited_memory
from hypergen.config import TrainConfig
from hypergen.data import memory
from hypergen.errors import InputError
from hypergen.experiments.memory import (
    _bound,
    _empty_models,
    _models,
    _training,
    require_baseline_memory,
    require_run_memory,
)
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.models.bundle import ModelBundle
from hypergen.training.direct_config import BaselineConfig
from targets import WeightLayout

GIGABYTE = 1e9
SIXTEEN = int(16 * GIGABYTE)


@pytest.fixture(autouse=True)
def sixteen_gigabytes(monkeypatch):
    """The machine that has to hold it all."""
    monkeypatch.setattr(memory, "machine_memory", lambda: SIXTEEN)


@pytest.fixture
def required(few_large):
    """Asks for the memory of a run."""

    def ask(samples: int = 2, **options) -> None:
        config = TrainConfig.of(**options)
        require_run_memory(RunSettings(config, few_large.info, ReportConfig(samples)), few_large)

    return ask


@pytest.mark.parametrize(
    ("options", "setting"),
    [
        ({"population": 10**9}, "population"),
        ({"latent_size": 10**9}, "latent_size"),
        ({"latent_size": 10**6, "target": "mlp"}, "latent_size"),
        ({"samples": 10**9}, "samples"),
        ({"value_members": 100, "value_network": "mlp", "target": "mlp"}, "value_members"),
        ({"population": 10**5, "batch_size": 10**9}, "population"),
        (
            {"replay_size": 10**9, "value_network": "mlp", "steps": 10**6, "measure_every": 1},
            "replay_size",
        ),
    ],
    ids=str,
)
def test_more_than_there_is_names_the_setting_to_lower(required, options, setting):
    before = torch.get_rng_state()
    with pytest.raises(InputError) as told:
        required(**options)
    message = str(told.value)
    assert message.startswith("this needs about ") and message.endswith(f"lower `{setting}`")
    assert "there are 16.0 GB" in message and "\n" not in message
    assert torch.get_rng_state().equal(before)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "light-cnn", "activation": "kaf", "value_network": "statistics"},
        {"batch_size": 10**9},  # the images that there are
        {"replay_size": 10**9},  # what there is to keep in so many steps
        {"steps": 10**9, "attack_steps": 10**9},  # which take time alone
    ],
    ids=str,
)
def test_what_fits_is_let_through(required, options):
    required(**options)


def test_a_large_target_is_told_with_the_size_of_the_images(few_large):
    shown = replace(few_large.info, input_shape=(3, 2048, 2048))
    larger = copy.copy(few_large)  # images of that size would take long to make
    object.__setattr__(larger, "info", shown)
    config = BaselineConfig.of(target="wide-mlp", image_size=2048)
    with pytest.raises(InputError, match="a smaller `target` than wide-mlp or a smaller `image"):
        require_baseline_memory(config, larger)
    require_baseline_memory(BaselineConfig(), few_large)


@pytest.mark.parametrize("target", ["mlp", "small-lenet5"])
@pytest.mark.parametrize("options", [{}, {"beta": "0:1"}, {"value_network": "mlp"}], ids=str)
def test_networks_are_counted_as_they_are(few_large, target, options):
    """Without numbers they have the bytes that they have with them, gradients and moments."""
    config = TrainConfig.of(target=target, value_members=2, latent_size=5, **options)
    empty, made = _empty_models(config, few_large.info), ModelBundle.fresh(config, few_large.info)
    assert empty is not None and all(p.is_meta for p in empty.generator.parameters())
    counted = sum(need.size for need in _models(config, empty))
    trained = 0
    for network in (made.generator, made.value):
        optimizer = torch.optim.Adam(network.parameters())
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        moments = [t for state in optimizer.state.values() for t in state.values() if t.ndim]
        trained += sum(2 * p.nbytes for p in network.parameters()) + sum(t.nbytes for t in moments)
    trained += sum(parameter.nbytes for parameter in made.ema.parameters())
    buffers = [b for each in (made.generator, made.ema, made.value) for b in each.buffers()]
    trained += sum({b.data_ptr(): b.nbytes for b in buffers}.values())  # shared ones lie once
    assert counted == trained


def test_a_target_that_cannot_do_without_numbers_is_left_to_be_made(required, monkeypatch):
    from hypergen.catalog import TARGETS

    class Choosy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(784, 10)
            assert float(self.layer.weight[0, 0]) < 2  # which asks for a number

        def forward(self, images):
            return self.layer(images.flatten(1))

    TARGETS.register("choosy")(Choosy)
    required(target="choosy")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "resnet20", "activation": "swish", "objective": "value"},
        {"target": "mlp", "value_network": "mlp", "value_members": 3, "replay_size": 64},
        {"population": 64, "batch_size": 512, "latent_size": 128, "generator": "dense"},
    ],
    ids=str,
)
def test_the_quick_bound_is_above_what_is_counted(options, few_large):
    """So that what is let through by it would have been let through by the count."""
    settings = RunSettings(TrainConfig.of(**options), few_large.info, ReportConfig(samples=20))
    models = _empty_models(settings.config, few_large.info)
    assert models is not None
    counted = [*_models(settings.config, models), *_training(settings.config, models, few_large)]
    assert sum(need.size for need in counted) < _bound(settings, few_large)


def test_a_small_run_is_let_through_without_a_count(required, monkeypatch):
    def never(*_):
        raise AssertionError("counted")

    monkeypatch.setattr("hypergen.experiments.memory._empty_models", never)
    required()
    with pytest.raises(AssertionError, match="counted"):
        required(population=10**6)


@pytest.mark.parametrize(
    ("left", "advice"),
    [
        (8, "lower `batch_size`"),
        (6, "lower `population`"),
        (5, "a smaller `target`"),
        (1, "a smaller"),
    ],
)
def test_the_least_that_helps_is_advised_and_another_target_last(left, advice):
    """Of 9 GB; with 5 left it takes another target, with 1 no single need is enough."""
    needs = [
        memory.Need(5 * GIGABYTE, "choose a smaller `target`", is_last=True),
        memory.Need(1 * GIGABYTE, "lower `batch_size`"),
        memory.Need(3 * GIGABYTE, "lower `population`"),
    ]
    with pytest.raises(InputError, match=f"or {advice}|; {advice}|; choose {advice}"):
        memory.require_memory(needs, int(left * GIGABYTE))
    memory.require_memory(needs, int(9 * GIGABYTE))


def test_networks_of_a_step_are_counted_with_their_gradients(few_large):
    """The first is of the target's size, the others are the population's."""
    config = TrainConfig.of(population=5)
    models = _empty_models(config, few_large.info)
    assert models is not None
    one, others, *_ = _training(config, models, few_large)
    assert one.size == 4 * 4 * WeightLayout.of(models.target).size  # four numbers of four bytes
    assert others.size == 4 * one.size and others.remedy == "lower `population`"


def test_a_budget_that_was_given_is_named_and_never_negative():
    needs = [memory.Need(10.0**9, "choose a smaller `target`")]
    with limited_memory("64GiB"), pytest.raises(InputError) as caught:
        memory.require_memory(needs, -(10**8))
    assert str(caught.value).endswith(
        "there are 0.0 GB left; raise `memory`, or choose a smaller `target`"
    )
