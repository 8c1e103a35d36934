import signal
from collections.abc import Iterator
from functools import partial

import pytest
import torch

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.errors import RunError
from hypergen.storage import checkpoint
from hypergen.training import objective
from hypergen.training.loop import deferred_interrupt, train
from hypergen.training.trainer import Trainer


def nothing(state: object) -> None:
    """Saves nothing."""


@pytest.fixture(scope="module")
def config(tiny) -> TrainConfig:
    return tiny.replace(objective="hybrid")


@pytest.fixture(scope="session")
def small_on_device(few, device) -> Dataset:
    """The small digits on the device."""
    return few.to(device)


@pytest.fixture(scope="module")
def never_stopped(config, small_on_device, device) -> Trainer:
    """What a training comes to that nothing stops."""
    trainer = Trainer(config, small_on_device, device)
    train(trainer, nothing)
    return trainer


@pytest.fixture
def near(device):
    """Equal; on a GPU, which may add up the same numbers in another order, to 1e-3."""
    return torch.equal if device.type == "cpu" else partial(torch.allclose, rtol=1e-3, atol=1e-3)


def fail_at(step: int, error: BaseException, monkeypatch) -> None:
    """Makes training fail in the middle of a step, when a good part of its state has changed."""
    whole, calls = objective.gradient, iter(range(step + 1))

    def gradient(*args):
        if next(calls) == step:
            raise error
        return whole(*args)

    monkeypatch.setattr(objective, "gradient", gradient)


def test_direct_training_learns(tiny, digits_on_device, device):
    few_measured = {"measure_every": 40, "prior_scale": 0.0, "epsilon": 0.02}
    config = tiny.replace(steps=40, learning_rate=0.02, population=4, **few_measured)
    trainer = Trainer(config, digits_on_device, device)
    train(trainer, nothing)
    population = trainer.sample(4, seed=0)
    images, labels = digits_on_device.test.first(500)
    right = population(images.expand(4, *images.shape)).argmax(-1) == labels
    assert right.float().mean() > 0.5


def test_the_same_seed_gives_the_same_run(tiny, few, cpu, same):
    def final(seed: int) -> dict:
        trainer = Trainer(tiny.replace(steps=3, seed=seed), few, cpu)
        train(trainer, nothing)
        return trainer.state_dict()

    first = final(1)
    assert same(first, final(1))
    assert not same(first["generator"], final(2)["generator"])


def test_every_step_is_told_and_the_last_state_is_saved(tiny, few, cpu, saved, same):
    trainer, told = Trainer(tiny, few, cpu), []
    train(trainer, saved, lambda step, metrics: told.append((step, "loss" in metrics)))
    assert told == [(step, True) for step in range(6)]
    (state,) = saved.states  # within 20 seconds
    assert state["step"] == 6 and same(state, trainer.state_dict())
    train(trainer, saved, lambda *_: told.append("more"))  # there is nothing left to do
    assert len(told) == 6


def test_a_state_taken_over_owes_nothing_to_its_file(config, few, cpu, tmp_path, same):
    path = tmp_path / "checkpoint.safetensors"
    trainer = Trainer(config, few, cpu)
    trainer.advance()
    checkpoint.save(path, trainer.state_dict())
    again = Trainer(config.replace(seed=1), few, cpu)
    checkpoint.resume(path, again.load_state_dict)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\xff" * size)
    for each in (again, trainer):
        each.advance()
    assert same(again.state_dict(), trainer.state_dict())


@pytest.mark.parametrize("step", [0, 1, 4])
def test_a_step_cut_in_half_is_taken_again(
    step, config, small_on_device, device, never_stopped, tmp_path, monkeypatch, same, near
):
    path, told = tmp_path / "checkpoint.safetensors", []
    save = partial(checkpoint.save, path)
    with monkeypatch.context() as patch:
        fail_at(step, KeyboardInterrupt(), patch)
        with pytest.raises(KeyboardInterrupt):
            trainer = Trainer(config, small_on_device, device)
            train(trainer, save, lambda step, _: told.append(step), checkpoint_seconds=0)
    assert told == list(range(step)) and path.exists() == (step > 0)
    trainer = Trainer(config, small_on_device, device)
    if step:
        checkpoint.restore(path, trainer.load_state_dict)
    train(trainer, save, lambda step, _: told.append(step))
    assert told == list(range(6))
    assert same(trainer.state_dict(), never_stopped.state_dict(), near)
    assert same(checkpoint.load(path), trainer.state_dict(), near_on_cpu)


def near_on_cpu(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.cpu().equal(b.cpu())


@pytest.mark.parametrize("kind", ["hybrid", "value"])
def test_steps_after_the_last_checkpoint_are_taken_again(
    kind, config, few, fresh_mlp, cpu, saved, same, monkeypatch
):
    config = config.replace(base="base", objective=kind)
    losses, whole = {}, Trainer(config, few, cpu, fresh_mlp)
    whole.pretrain_value(steps=3)
    train(whole, nothing, lambda step, metrics: losses.update({step: metrics}))
    with monkeypatch.context() as patch:
        fail_at(5, KeyboardInterrupt(), patch)
        trainer = Trainer(config, few, cpu, fresh_mlp)
        trainer.pretrain_value(steps=3)
        with pytest.raises(KeyboardInterrupt):
            train(trainer, saved, checkpoint_seconds=0)
    assert [state["step"] for state in saved.states] == [1, 2, 3, 4, 5]
    again, other = {}, Trainer(config, few, cpu)  # the base is in the checkpoint
    other.load_state_dict(saved.states[1])
    train(other, nothing, lambda step, metrics: again.update({step: metrics}))
    assert again == {step: losses[step] for step in range(2, 6)}
    assert same(other.state_dict(), whole.state_dict())


def test_nan_ends_a_run_and_its_last_good_checkpoint_is_kept(
    config, small_on_device, device, never_stopped, saved, same, near, monkeypatch
):
    trainer = Trainer(config, small_on_device, device)
    with monkeypatch.context() as patch:
        plain = objective.gradient

        def gradient(*args):
            losses, found = plain(*args)
            return losses, found * (float("nan") if trainer.step == 3 else 1)

        patch.setattr(objective, "gradient", gradient)
        with pytest.raises(RunError, match="diverged at step 3"):
            train(trainer, saved, checkpoint_seconds=0)
    assert saved.states[-1]["step"] == 3
    fresh = Trainer(config, small_on_device, device)
    fresh.load_state_dict(saved.states[-1])
    train(fresh, nothing)
    assert same(fresh.state_dict(), never_stopped.state_dict(), near)


@pytest.mark.parametrize(
    "settings",
    [
        {"learning_rate": 1e29},
        {"learning_rate": 1e12},
        {"learning_rate": 1e29, "generator": "published"},
        {"value_learning_rate": 1e29},
        {"value_learning_rate": 1e29, "value_network": "mlp", "objective": "value"},
        {"value_learning_rate": 1e20, "objective": "value"},
    ],
    ids=str,
)
def test_absurd_learning_rates_diverge_and_leave_finite_weights(settings, tiny, few, cpu, saved):
    config = tiny.replace(steps=12, batch_size=8, measure_every=1, value_steps=16, **settings)
    with pytest.raises(RunError, match="diverged"):
        train(Trainer(config, few, cpu), saved, checkpoint_seconds=0)
    for state in saved.states:
        for name in ("generator", "value"):
            assert all(tensor.isfinite().all() for tensor in state[name].values())


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as a terminal has it; in the background of a shell it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_the_first_ctrl_c_waits_for_the_step_and_the_second_does_not():
    with deferred_interrupt() as asked:
        assert not asked.is_set()
        signal.raise_signal(signal.SIGINT)
        assert asked.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_saves_a_whole_step(
    config, small_on_device, device, never_stopped, saved, same, near, monkeypatch
):
    trainer = Trainer(config, small_on_device, device)
    plain, told = objective.gradient, []

    def gradient(*args):
        if trainer.step == 2:
            signal.raise_signal(signal.SIGINT)
        return plain(*args)

    with monkeypatch.context() as patch:
        patch.setattr(objective, "gradient", gradient)
        with pytest.raises(KeyboardInterrupt):
            train(trainer, saved, lambda step, _: told.append(step))
    assert told == [0, 1, 2] and [state["step"] for state in saved.states] == [3]
    fresh = Trainer(config, small_on_device, device)
    fresh.load_state_dict(saved.states[0])
    train(fresh, nothing)
    assert same(fresh.state_dict(), never_stopped.state_dict(), near)


def test_a_handler_of_the_users_own_is_left_alone():
    def own(*_: object) -> None:
        """Does nothing."""

    before = signal.signal(signal.SIGINT, own)
    try:
        with deferred_interrupt() as asked:
            assert signal.getsignal(signal.SIGINT) is own
            signal.raise_signal(signal.SIGINT)
            assert not asked.is_set()
    finally:
        signal.signal(signal.SIGINT, before)
