"""Dear measures of those networks alone that V is least sure of."""

from types import SimpleNamespace

import pytest
import torch

import attacks
from hypergen.catalog import MEASURES
from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.measures import Accuracy, Certified, Robustness, Square, build_measures
from hypergen.storage import checkpoint
from hypergen.training.trainer import Trainer


@pytest.fixture
def box():
    """A registered black box, what it said and of which weights."""
    calls = SimpleNamespace(theta=[], figures=[])

    @MEASURES.register("box")
    def measure(population, images, labels):
        figures = population.theta.abs().mean(1).frac()
        calls.theta.append(population.theta)
        calls.figures.append(figures)
        return figures

    yield calls
    MEASURES.drop("box")


@pytest.fixture
def active(tiny, box) -> TrainConfig:
    """Measures a black box of the half of all networks in each step."""
    return tiny.replace(
        objective="value",
        measure=("accuracy=0.5", "box=0.5"),
        measure_budget="active",
        measure_every=1,
        value_members=2,
        population=4,
        replay_size=20,
    )


@pytest.fixture
def unsure(monkeypatch):
    """Makes the V of a trainer as unsure of the box as is said; of accuracy by far more."""

    def be(trainer, spread):
        def uncertainty(features):
            assert len(features) == len(spread)
            of_accuracy = 10 * torch.rand(len(spread))
            return torch.stack([of_accuracy, torch.tensor(spread)], dim=1)

        monkeypatch.setattr(trainer.models.value, "uncertainty", uncertainty)

    return be


@pytest.mark.parametrize(
    ("num_perturbed", "spread", "expected"),
    [
        (0, [0.1, 0.4, 0.2, 0.3], [1, 3]),
        (0, [0.4, 0.1, 0.0, 0.2], [0, 3]),
        (1, [0.1, 0.4, 0.2, 0.3, 0.5], [1, 4]),  # the copy comes last
        (2, [0.1, 0.2, 0.3, 0.4, 0.6, 0.5], [3, 4, 5]),
        (3, [0.1, 0.2, 0.3, 0.4, 0.7, 0.6, 0.5], [4, 5, 6]),
    ],
)
def test_the_half_that_v_is_least_sure_of_is_measured(
    num_perturbed, spread, expected, active, box, unsure, few, cpu
):
    trainer = Trainer(active.replace(num_perturbed=num_perturbed, value_network="mlp"), few, cpu)
    unsure(trainer, spread)
    metrics = trainer.take_step()
    features, measured = trainer.value_fitter.replay.last(20)
    assert len(measured) == len(spread) and measured[:, 0].isfinite().all()
    assert measured[:, 1].isfinite().nonzero().flatten().tolist() == expected
    # Those, and no others, were handed to the box; what it said stands in their rows.
    assert torch.cat(box.theta).equal(features[expected])
    assert torch.cat(box.figures).equal(measured[expected, 1])
    own = measured[:4, 1]
    if own.isfinite().any():
        assert metrics["measured/box"] == pytest.approx(float(own[own.isfinite()].mean()))
        assert 0 < metrics["estimated/box"] < 1
    else:
        assert not {"measured/box", "estimated/box"} & set(metrics)
    assert metrics["measured/accuracy"] == pytest.approx(float(measured[:4, 0].mean()))


def test_one_network_is_measured_always(active, box, few, cpu):
    trainer = Trainer(active.replace(population=1, num_perturbed=0), few, cpu)
    for _ in range(2):
        trainer.take_step()
    assert [len(theta) for theta in box.theta] == [1, 1]


def test_estimates_are_told_of_the_networks_that_were_measured(active, unsure, few, cpu):
    trainer = Trainer(active.replace(num_perturbed=0), few, cpu)
    unsure(trainer, [0.1, 0.4, 0.2, 0.3])
    metrics = trainer.take_step()
    estimated = trainer.models.value(trainer.value_fitter.replay.last(4)[0])
    assert metrics["estimated/box"] == pytest.approx(float(estimated[[1, 3], 1].mean()))
    assert metrics["estimated/accuracy"] == pytest.approx(float(estimated[:, 0].mean()))


def test_before_the_first_step_all_is_measured(active, box, fresh_mlp, few, cpu):
    trainer = Trainer(active.replace(base="base"), few, cpu, fresh_mlp)
    trainer.pretrain_value(steps=1)
    assert [len(theta) for theta in box.theta] == [17]
    assert trainer.value_fitter.replay.last(20)[1].isfinite().all()


def test_all_is_measured_unless_asked_otherwise(active, box, few, cpu):
    trainer = Trainer(active.replace(measure_budget="all"), few, cpu)
    trainer.take_step()
    assert TrainConfig().value_network.measure_budget == "all"
    assert sum(len(theta) for theta in box.theta) == 5
    assert trainer.value_fitter.replay.last(20)[1].isfinite().all()


def test_a_run_without_dear_measures_has_nothing_to_save(active):
    cheap = active.replace(measure=("accuracy=0.5", "int8:bits=3=0.5"))
    with pytest.raises(InputError, match="the run has none: leave it out"):
        build_measures(cheap)


def test_a_run_with_unknown_figures_goes_on_from_its_checkpoint(active, few, cpu, tmp_path, same):
    def equal(a, b):
        return a.isnan().equal(b.isnan()) and a.nan_to_num().equal(b.nan_to_num())

    whole = Trainer(active, few, cpu)
    for _ in range(2):
        whole.take_step()
    assert whole.value_fitter.replay.last(20)[1].isnan().any()
    checkpoint.save(tmp_path / "c", whole.state_dict())
    other = Trainer(active, few, cpu)
    checkpoint.restore(tmp_path / "c", other.load_state_dict)
    for _ in range(3):
        assert whole.take_step() == other.take_step()
    assert same(whole.state_dict(), other.state_dict(), equal)


def test_dear_is_what_neither_v_nor_the_gradient_has_paid_for(active, few, cpu):
    threat = attacks.Threat("linf", 0.1)
    _, function = Trainer(active, few, cpu).measures
    assert function.is_dear
    crown = Certified(threat, method="crown-ibp")
    cheap = Accuracy(), Robustness(threat), Square(threat), crown
    assert not any(measure.is_dear for measure in cheap)


def test_one_value_network_knows_not_what_it_is_unsure_of():
    with pytest.raises(InputError, match="`measure_budget` active needs an .* `value_members`"):
        TrainConfig.of(measure_budget="active")
