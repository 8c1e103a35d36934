"""Batches of direct training that do not fit the memory at once."""

import pytest
import torch

from hypergen.errors import InputError
from hypergen.training import micro_batches
from hypergen.training.direct import DirectTrainer
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.micro_batches import trainings_at_once


@pytest.mark.parametrize("target", ["mlp", "fbf-cnn"])
def test_a_batch_in_parts_trains_as_the_whole(target, few, cpu):
    config = BaselineConfig.of(method="fbf", target=target, epsilon=0.1)
    images, labels = few.train.first(30)
    whole, parts = DirectTrainer(config, few, cpu), DirectTrainer(config, few, cpu)
    assert whole.part is None
    parts.part = 7
    for trainer in (whole, parts):
        for step in (0.3, 0.6):
            trainer.take_step(images, labels, trainer.plan.training_attack(step), 0.01)
    for one, other in zip(whole.module.parameters(), parts.module.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_that_does_not_fit_is_told_where_it_cannot_be_parted(few, cpu, monkeypatch):
    monkeypatch.setattr(micro_batches, "allowed", lambda: 2**30)
    monkeypatch.setattr(micro_batches, "room", lambda: 2**20)
    with pytest.raises(InputError, match="a batch of 100 images needs about .* raise it") as told:
        DirectTrainer(BaselineConfig.of(target="light-cnn"), few, cpu)
    assert "\n" not in str(told.value)
    DirectTrainer(BaselineConfig.of(target="mlp"), few, cpu)
    with pytest.raises(InputError, match="a batch of 100 images needs about"):
        DirectTrainer(BaselineConfig.of(target="mlp", method="ibp"), few, cpu)


@pytest.mark.parametrize(("left", "expected"), [(0, 1), (2.1, 1), (4.1, 2), (100, 3)])
def test_so_many_trainings_side_by_side_as_fit_into_half(left, expected, few, cpu, monkeypatch):
    config = BaselineConfig.of(target="light-cnn")
    need = micro_batches._bytes_of(config, few)
    assert trainings_at_once([config], few, cpu) is None  # nobody asks how much is left
    monkeypatch.setattr(micro_batches, "CERTAIN", 0.0)
    monkeypatch.setattr(micro_batches, "room", lambda: left * need)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert trainings_at_once([config, BaselineConfig.of(target="mlp")], few, cpu) == expected
