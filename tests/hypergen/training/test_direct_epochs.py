"""Direct training from epoch to epoch: what is validated, kept, gone back to, continued."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import targets
from attacks import PGD
from hypergen.data import Dataset
from hypergen.storage import checkpoint
from hypergen.training import direct, recipes
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from targets.kwta import KWTA

SHORT = BaselineConfig(target="mlp", epochs=2)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def trained(
    config: BaselineConfig,
    dataset: Dataset,
    device: torch.device,
    save: Callable[[dict], object] = lambda state: None,
) -> nn.Module:
    return train_direct(DirectTrainer(config, dataset, device), save=save)


def test_the_average_is_validated_kept_and_gone_back_to(few, cpu, monkeypatch):
    judged, scores = [], iter([0.3, 0.9, 0.2])

    def validate(module, config, dataset):
        assert not module.training
        judged.append(weights(module).clone())
        return next(scores)

    monkeypatch.setattr(direct, "validate", validate)
    trainer = DirectTrainer(SHORT.replace(epochs=3, ema_decay=0.9), few, cpu)
    average, count = torch.empty(0), 0

    def follow():
        nonlocal average, count
        current = weights(trainer.module).double()
        decay = min(0.9, (1 + count) / (10 + count))
        average = decay * average + (1 - decay) * current if count else current
        count += 1

    for epoch in range(2):
        trainer.advance(follow)
        torch.testing.assert_close(judged[epoch].double(), average, rtol=1e-4, atol=1e-6)
        assert not weights(trainer.module).equal(judged[epoch])
    trainer.advance()  # lost .7: both are the best average again
    assert not judged[2].equal(judged[1])
    for network in (trainer.module, trainer.ema.module):
        assert weights(network).equal(judged[1])
    scores = iter([0.3, 0.9, 0.2])
    config = SHORT.replace(epochs=3, ema_decay=0.9)
    kept = trained(config, few, cpu)
    assert weights(kept).equal(judged[1]) and not kept.training


def test_the_share_falls_over_the_first_half_and_the_last_is_judged(few, cpu, monkeypatch):
    taken, judged = [], []

    def shares(module):
        (found,) = {layer.share for layer in module.modules() if isinstance(layer, KWTA)}
        return found

    def validate(module, config, dataset):
        judged.append(shares(module))
        return -float(len(judged))  # the first epoch is the best, and later ones a collapse

    monkeypatch.setattr(direct, "validate", validate)
    config = SHORT.replace(activation="kwta-0.1", share_start=0.5, epochs=8)
    trainer = DirectTrainer(config, few, cpu)
    for _ in range(8):
        trainer.advance(lambda: taken.append(shares(trainer.module)))
    expected = [0.5, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1]
    assert taken == pytest.approx(np.repeat(expected, 3))
    assert judged == [0.1] * 8 and taken[-1] == 0.1
    assert shares(trained(config.replace(epochs=2), few, cpu)) == 0.1


def test_the_epoch_best_in_validation_is_kept(few, cpu, monkeypatch):
    judged, scores = [], iter([0.3, 0.9, 0.2, 0.1])

    def validate(module, config, dataset):
        assert not module.training
        judged.append(weights(module).clone())
        return next(scores)

    monkeypatch.setattr(direct, "validate", validate)
    module = trained(SHORT.replace(epochs=4), few, cpu)
    assert len(judged) == 4 and not judged[1].equal(judged[3])
    assert weights(module).equal(judged[1]) and not module.training


def test_after_a_collapse_training_goes_on_from_the_best_epoch(few, cpu, monkeypatch):
    """With a learning rate of zero from then on, the end is where it went back to."""
    judged, scores = [], iter([0.9, 0.1, 0.9])

    def validate(module, config, dataset):
        judged.append(weights(module).clone())
        return next(scores)

    monkeypatch.setattr(direct, "validate", validate)
    falling = replace(recipes.GREY, rate=lambda progress: float(progress < 0.65))
    monkeypatch.setattr(recipes, "GREY", falling)
    trained(SHORT.replace(epochs=3), few, cpu)
    assert not judged[1].equal(judged[0]) and judged[2].equal(judged[0])


def test_epochs_are_compared_on_validation_images_by_what_is_trained_for(
    base_network, digits, forbid, precisions
):
    module, (images, labels) = base_network, digits.val.first(500)
    others = {"train": forbid(digits.train), "test": forbid(digits.test)}
    config = BaselineConfig(method="fbf", target="mlp", epsilon=0.05)
    clean = float((module(images).argmax(1) == labels).double().mean())
    population = targets.Population.of([module])
    robust = PGD(config.threat, steps=10)(population, images[None], labels, [0]).robust_accuracy
    assert float(robust) < clean
    for changes, score in (
        ({}, float(robust)),
        ({"beta": 0.25}, 0.75 * clean + 0.25 * float(robust)),
        ({"beta": 0.0}, clean),
        ({"method": "standard"}, clean),
    ):
        precisions.clear()
        found = direct.validate(module, config.replace(**changes), replace(digits, **others))
        assert set(precisions) == {"ieee"}
        assert found == pytest.approx(score)


def test_epochs_of_several_norms_are_compared_by_their_union(base_network, digits):
    images, labels = digits.val.first(500)
    config = BaselineConfig(method="msd", target="mlp", norms="linf=0.01,l1=10")
    population = targets.Population.of([base_network])
    robust = [
        PGD(threat, steps=10)(population, images[None], labels, [0]).robust_mask
        for threat in config.threats
    ]
    union = float((robust[0] & robust[1]).double().mean())
    assert 0 < union < float(robust[0].double().mean())
    assert direct.validate(base_network, config, digits) == pytest.approx(union)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"method": "avg", "norms": "linf=0.05,l2=0.5"},
        {"target": "small-lenet5"},  # it has dropout
        {"ema_decay": 0.9},
        {"method": "n-fgsm", "awp": 0.01, "label_smoothing": 0.1},
        {"activation": "kwta-0.1", "share_start": 0.5, "epochs": 6},  # killed while it falls
    ],
    ids=str,
)
def test_a_training_continued_is_one_never_stopped(options, few, few_large, cpu, tmp_path):
    config = SHORT.replace(**{"epochs": 3} | options)
    few = few if config.target == "mlp" else few_large
    whole = weights(trained(config, few, cpu))
    path, steps = tmp_path / "checkpoint.safetensors", []
    save = partial(checkpoint.save, path)

    def killed() -> None:
        steps.append(None)
        if len(steps) == 8:  # within the third epoch of 3 steps
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_direct(DirectTrainer(config, few, cpu), killed, save)
    torch.manual_seed(77)
    trainer = DirectTrainer(config, few, cpu)
    checkpoint.restore(path, trainer.load_state_dict)
    path.write_bytes(bytes(path.stat().st_size))  # of which nothing is looked at again
    assert (trainer.epoch, trainer.step) == (2, 6)
    steps.clear()
    assert weights(train_direct(trainer, lambda: steps.append(None), save)).equal(whole)
    assert len(steps) == 3 * (trainer.plan.epochs - 2)  # the first two were not trained again
