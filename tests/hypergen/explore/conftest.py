from pathlib import Path

import pytest
import torch

from hypergen.config import TrainConfig
from hypergen.data import Dataset
from hypergen.experiments.explorer import Explorer
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.storage import checkpoint
from hypergen.storage.checkpoint import CHECKPOINT
from hypergen.training.trainer import Trainer


@pytest.fixture(scope="session")
def explored(few_large: Dataset, tmp_path_factory) -> Path:
    """The folder of a run of small-lenet5 for preferences in [0, 1].

    It is as at its first step, but that networks differ by their preference, as trained ones do.
    """
    config = TrainConfig.of(target="small-lenet5", beta="0:1", steps=4, max_robustness_gap=1.0)
    folder = tmp_path_factory.mktemp("runs") / "explored"
    folder.mkdir()
    RunSettings(config, few_large.info, ReportConfig(), False).on(few_large).save(folder)
    trainer = Trainer(config, few_large, torch.device("cpu"))
    for generator in (trainer.models.generator, trainer.models.ema):
        for name, tensor in generator.named_parameters():
            if name.endswith("offsets"):
                torch.nn.init.normal_(tensor, std=0.1)
    checkpoint.save(folder / CHECKPOINT, trainer.state_dict())
    return folder


@pytest.fixture(scope="session")
def explorer(explored: Path, large_digits: Dataset) -> Explorer:
    return Explorer(explored, large_digits)
