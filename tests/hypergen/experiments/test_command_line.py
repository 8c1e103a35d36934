"""The command of a weight file, read again, has the very settings that the file was made with."""

import shlex

import pytest

from hypergen.cli import baseline, train
from hypergen.config import TrainConfig
from hypergen.experiments.command_line import Making, making_line
from hypergen.experiments.run_folder import ReportConfig
from hypergen.training.direct_config import BaselineConfig

DIRECT = [
    BaselineConfig(),
    BaselineConfig.of(method="pgd", dataset="cifar10", epsilon=8 / 255, learning_rate=1e-3),
    BaselineConfig.of(method="avg", norms="linf=0.3,l2=1.5", grey=True, awp=0.005, seed=3),
    BaselineConfig.of(dataset="folder:my pets", image_size=32, epsilon=0.1, lipschitz_bound=1.0),
]
TRAINED = [
    TrainConfig(),
    TrainConfig.of(beta="0:0.8", steps=25, population=2, prior_scale=0.0, base="my base.pt"),
    TrainConfig.of(objective="value", measure=("accuracy=0.5", "int8:bits=4=0.5"), ema_decay=0.0),
]


@pytest.mark.parametrize("config", DIRECT)
def test_of_a_direct_training(config):
    line = making_line(Making("baseline", (config,), (), ("my nets.py",), "", ""))
    words = shlex.split(line.replace("--plugin 'my nets.py' ", ""))
    settings, own = baseline.COMMAND.parse("baseline", words[2:])
    assert words[:2] == ["hypergen", "baseline"] and settings["training"] == config
    assert str(own.out) == "OUT" and words != shlex.split(line)


@pytest.mark.parametrize("config", TRAINED)
def test_of_a_run(config):
    report = ReportConfig(samples=3, split="val")
    words = shlex.split(
        making_line(Making("train", (config, report), ("no_baseline",), (), "", ""))
    )
    settings, own = train.COMMAND.parse("train", words[2:])
    assert (settings["training"], settings["report"]) == (config, report) and own.no_baseline
