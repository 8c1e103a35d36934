"""What one step of the generator is made of: on which images, how weighed, how far."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hypergen.data import dataset
from hypergen.errors import RunError
from hypergen.evaluation.sampler import Sampler
from hypergen.runtime import precision
from hypergen.training import objective
from hypergen.training.direct import DirectTrainer
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.loop import train
from hypergen.training.trainer import Trainer
from hypergen.training.value_fitter import draw_seed
from targets import WeightLayout

NAMES = ["accuracy", "robustness"]


class SpiedLatent:
    """Draws as another latent does, and notes the spreads."""

    def __init__(self, latent: Any):
        self.latent, self.size, self.spreads = latent, latent.size, []

    def draw(self, count: int, rng: torch.Generator, spread: float = 1.0) -> torch.Tensor:
        self.spreads.append(spread)
        return self.latent.draw(count, rng, spread)


@pytest.mark.parametrize("from_base", [False, True])
def test_accuracy_weighs_1_minus_beta_and_robustness_beta(
    from_base, tiny, few, fresh_mlp, cpu, asked, monkeypatch
):
    """From scratch robustness is asked for little by little, from a base all z is."""
    config = tiny.replace(beta="0:1", warmup=0.5, population=3, base="base" if from_base else None)
    trainer = Trainer(config, few, cpu, fresh_mlp if from_base else None)
    latent = trainer.generator.latent = SpiedLatent(trainer.generator.latent)
    drawn, generate = [], trainer.generate

    def noted() -> tuple[torch.Tensor, torch.Tensor]:
        theta, beta = generate()
        drawn.append(beta)
        return theta, beta

    monkeypatch.setattr(trainer, "generate", noted)
    for _ in range(5):
        trainer.take_step()
    ramps = [1 / 3, 2 / 3, 1, 1, 1]
    for call, beta, ramp in zip(asked, drawn, ramps, strict=True):
        robustness = beta if from_base else ramp * beta
        torch.testing.assert_close(call.weights[:, 1], robustness)
        torch.testing.assert_close(call.weights[:, 0], 1 - robustness)
        assert beta.unique().numel() == 3
    assert latent.spreads == (pytest.approx(ramps) if from_base else [1.0] * 5)


@pytest.mark.parametrize(
    ("beta", "warmed_up"), [("0", ["accuracy"]), ("0.5", NAMES), ("1", ["robustness"])]
)
def test_measures_without_a_weight_are_left_out(beta, warmed_up, tiny, few, cpu, asked):
    """Of clean images nothing is computed with a beta of 1, once the warm-up is over."""
    trainer = Trainer(tiny.replace(beta=beta, warmup=0.5, base=None), few, cpu)
    for _ in range(5):
        trainer.take_step()
    warming_up = ["accuracy"] if beta == "0" else NAMES
    asked_for = [[measure.name for measure in call.measures] for call in asked]
    assert asked_for == [warming_up] * 2 + [warmed_up] * 3


def test_only_training_images_train_and_none_of_test_is_ever_seen(
    tiny, few, fresh_mlp, cpu, forbid
):
    unseen = replace(few, test=forbid(few.test))
    config = tiny.replace(base="base", objective="hybrid", max_robustness_gap=0.9, steps=2)
    trainer = Trainer(config, unseen, cpu, fresh_mlp)
    checked = []
    train(
        trainer,
        lambda state: None,
        lambda _, metrics: checked.append("check/robustness" in metrics),
    )
    assert any(checked)  # on validation images
    sampler = Sampler(config, unseen.info, trainer.models, 3, unseen)
    sampler.estimate(trainer.sample(2, 0), unseen, 20)
    DirectTrainer(BaselineConfig(target="mlp", epochs=1), unseen, cpu).advance()
    with pytest.raises(AssertionError, match="looked at"):
        unseen.test.first(1)
    trainer = Trainer(config, replace(unseen, val=forbid(few.val)), cpu, fresh_mlp)
    trainer.pretrain_value(steps=3)
    for _ in range(2):
        trainer.take_step()


def test_images_are_augmented_before_they_are_attacked(tiny, few, cpu, asked, monkeypatch):
    monkeypatch.setattr(dataset, "crop_and_flip", lambda images, *_: images * 0 + 0.5)
    cropped = replace(few, info=replace(few.info, crop=2))
    trainer = Trainer(tiny, cropped, cpu)
    trainer.take_step()
    (call,) = asked
    assert (call.batch.images == 0.5).all()
    moved = (call.batch.prepared["robustness"] - 0.5).abs()
    assert (
        moved.max() > 0
        and (moved <= trainer.adversary.enlarged(trainer.config.threat).epsilon + 1e-6).all()
    )


def test_the_learning_rate_is_a_cosine_after_a_short_warm_up(tiny, few, cpu):
    for schedule in ("cosine", "constant"):
        config = tiny.replace(steps=60, schedule=schedule, learning_rate=0.01)
        trainer = Trainer(config, few, cpu)
        for trainer.step in range(60):
            expected = 0.01
            if schedule == "cosine":
                expected *= min(1, (trainer.step + 1) / 20)
                expected *= math.cos(math.pi * trainer.step / 120) ** 2
            assert trainer.learning_rate == pytest.approx(expected, rel=1e-4)
        trainer.take_step()
        (group,) = trainer.optimizer.param_groups
        assert group["lr"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("factor", [0.5, 1e4])
def test_the_gradient_is_the_mean_over_networks_clipped_at_1(factor, tiny, few, cpu):
    """factor: the norm of the gradient, about."""
    trainer = Trainer(tiny, few, cpu)
    parameters = list(trainer.generator.parameters())
    theta = trainer.generator(torch.randn(3, trainer.models.latent.size), torch.full((3,), 0.5))
    slope = torch.randn(theta.shape)
    loss = (slope * theta).sum() / 3
    expected = torch.autograd.grad(loss, parameters, retain_graph=True)
    norm = float(torch.cat([g.flatten() for g in expected]).norm())
    size = factor / norm
    assert float(trainer.descend(theta, size * slope)) == pytest.approx(factor, rel=1e-3)
    for parameter, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(
            parameter.grad, wanted * min(size, 1 / norm), rtol=1e-3, atol=1e-7
        )


@pytest.mark.parametrize(
    "what", ["generated weights are", "gradient is", "generator is", "value network is"]
)
def test_what_diverged_is_told(what, tiny, few, cpu, monkeypatch):
    trainer = Trainer(tiny.replace(value_steps=1), few, cpu)

    def spoil(network: nn.Module) -> None:
        next(network.parameters()).data.fill_(float("nan"))

    if what == "generated weights are":
        spoil(trainer.generator)
    elif what == "gradient is":
        whole = objective.gradient
        monkeypatch.setattr(
            objective, "gradient", lambda *args: (whole(*args)[0], whole(*args)[1] * torch.nan)
        )
    elif what == "generator is":
        trainer.optimizer.register_step_post_hook(lambda *_: spoil(trainer.generator))
    else:
        fitting = trainer.value_fitter.optimizer
        fitting.register_step_post_hook(lambda *_: spoil(trainer.models.value))
    with pytest.raises(RunError, match=f"diverged at step 0: the {what} NaN"):
        trainer.take_step()
    assert trainer.step == 0


def test_logits_that_are_no_numbers_are_a_failed_run(tiny, few, cpu, monkeypatch):
    trainer = Trainer(tiny, few, cpu)
    generate = trainer.generate
    monkeypatch.setattr(trainer, "generate", lambda: (generate()[0] * 1e38, generate()[1]))
    with pytest.raises(RunError, match=r"diverged at step 0: .*NaN or infinite logits"):
        trainer.advance()


def test_the_optimisers_decay_weights_as_asked(tiny, few, cpu):
    trainer = Trainer(tiny.replace(weight_decay=0.25, value_weight_decay=0.125), few, cpu)
    assert trainer.optimizer.param_groups[0]["weight_decay"] == 0.25
    assert trainer.value_fitter.optimizer.param_groups[0]["weight_decay"] == 0.125


def test_samples_are_the_averaged_generators(tiny, few, cpu):
    trainer = Trainer(tiny, few, cpu)
    trainer.take_step()
    before = trainer.sample(2, seed=1)
    for parameter in trainer.generator.parameters():
        parameter.data.zero_()
    assert trainer.sample(2, seed=1).theta.equal(before.theta)
    for parameter in trainer.ema.parameters():
        parameter.data.zero_()
    assert not trainer.sample(2, seed=1).theta.equal(before.theta)


def test_a_gap_that_was_found_is_heeded(tiny, few, cpu, monkeypatch):
    trainer = Trainer(tiny.replace(steps=20, max_robustness_gap=0.1), few, cpu)
    gaps, steps = iter([1.0, 0.0, 0.0, 0.0]), []

    def found() -> dict[str, float]:
        return {"check/accuracy/gap": 1.0, "check/robustness/gap": next(gaps)}

    monkeypatch.setattr(trainer, "check_measures", found)
    while trainer.step < 20:
        trainer.advance()
        steps.append(trainer.adversary.attack_steps)
    first = tiny.attack_steps
    assert steps == [first] * 3 + [2 * first] * 17
    assert not list(gaps)  # after each fifth, but not in the end


def test_with_a_gap_of_1_nothing_is_checked(tiny, few, cpu):
    trainer = Trainer(tiny.replace(max_robustness_gap=1.0), few, cpu)
    assert not any("check/robustness" in trainer.advance() for _ in range(6))


def test_seeds_of_attacks_differ():
    rng = torch.Generator().manual_seed(0)
    assert draw_seed(rng) != draw_seed(rng)


def test_a_value_run_from_a_base_starts_at_the_base(tiny, fresh_mlp, few, cpu):
    trainer = Trainer(tiny.replace(base="base", objective="value"), few, cpu, fresh_mlp)
    start = WeightLayout.of(trainer.models.target).flatten(fresh_mlp.state_dict())
    assert trainer.generator.base_weights.equal(start)
    spreads = []
    for trainer.step in range(3):
        spreads.append(trainer.warmup)
    assert spreads == pytest.approx([1 / 1.2, 1.0, 1.0])


@pytest.mark.parametrize(("num_perturbed", "count"), [(0, 1), (1, 17)])
def test_v_is_fitted_to_the_base_and_copies_of_it_before_the_first_step(
    num_perturbed, count, tiny, fresh_mlp, few, cpu
):
    config = tiny.replace(base="base", objective="value", replay_size=50)
    trainer = Trainer(config.replace(num_perturbed=num_perturbed), few, cpu, fresh_mlp)
    before = [parameter.clone() for parameter in trainer.models.value.parameters()]
    trainer.pretrain_value(steps=1)
    assert len(trainer.value_fitter.replay) == count
    after = trainer.models.value.parameters()
    assert not any(old.equal(new) for old, new in zip(before, after, strict=True))
    assert trainer.step == 0


def test_scores_are_what_was_measured_and_what_v_estimates(tiny, few, cpu):
    trainer = Trainer(tiny.replace(replay_size=50), few, cpu)
    metrics = trainer.take_step()
    scores = trainer.value_fitter.scores()
    features, measured = trainer.value_fitter.replay.last(50)
    assert [score["kind"] for score in scores] == ["measured"] * 3 + ["estimated"] * 3
    with torch.no_grad():
        estimated = trainer.models.value(features)
    for score, row in zip(scores, [*measured.tolist(), *estimated.tolist()], strict=True):
        assert [score["accuracy"], score["robustness"]] == row
    assert metrics["measured/accuracy"] == pytest.approx(float(measured[:2, 0].mean()))


@pytest.mark.parametrize(
    ("settings", "from_base"),
    [
        ({"objective": "value", "value_network": "mlp", "generator": "published"}, True),
        ({"objective": "value", "value_attack": "margin", "generator": "chunk"}, True),
        ({"objective": "value", "value_network": "probe", "value_members": 2}, False),
        ({"objective": "hybrid", "value_network": "statistics", "target": "light-cnn"}, False),
        ({"objective": "direct", "attack_steps": 1, "beta": "0:1", "target": "light-cnn"}, False),
        ({"objective": "direct", "num_perturbed": 0, "ema_decay": 0.0}, True),
        ({"objective": "direct", "norm": "l1", "epsilon": 5.0, "attack_steps": 1}, False),
    ],
    ids=str,
)
def test_parts_go_together_and_all_that_is_evaluated_keeps_all_bits(
    settings, from_base, tiny, few, fresh_mlp, cpu, precisions
):
    config = tiny.replace(**settings, base="base" if from_base else None)
    trainer = Trainer(config, few, cpu, fresh_mlp if from_base else None, pretraining_steps=3)
    trainer.pretrain_value(steps=2)
    before = [parameter.clone() for parameter in trainer.generator.parameters()]
    for _ in range(2):
        metrics = trainer.take_step()
        assert all(math.isfinite(value) for value in metrics.values())
    after = trainer.generator.parameters()
    assert any(not old.equal(new) for old, new in zip(before, after, strict=True))
    assert trainer.sample(2, 0).theta.shape == (2, WeightLayout.of(trainer.models.target).size)
    assert precisions and set(precisions) == {"ieee"}


def test_bf16_moves_a_generator_nearly_as_float32(tiny, few_large, cpu, monkeypatch):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    found = []
    for name in ("float32", "bf16"):
        config = tiny.replace(objective="direct", target="fbf-cnn", precision=name)
        trainer = Trainer(config, few_large, cpu)
        before = nn.utils.parameters_to_vector(trainer.generator.parameters()).detach().clone()
        trainer.take_step()
        after = nn.utils.parameters_to_vector(trainer.generator.parameters()).detach()
        found.append(after - before)
    assert not found[0].equal(found[1])
    assert F.cosine_similarity(*found, dim=0) > 0.9
