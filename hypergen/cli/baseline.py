"""`hypergen baseline`."""

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.errors import InputError
from hypergen.experiments.baseline import train_baseline
from hypergen.experiments.lr_range_test import test_learning_rates
from hypergen.experiments.run_folder import dated
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings
from hypergen.storage.folders import require_folder
from hypergen.training.direct_config import BaselineConfig


@dataclass(frozen=True)
class BaselineOptions(Settings):
    """Train one network directly: ordinarily, or against attacks."""

    out: Path | None = None
    """folder for network.safetensors; by default a dated one under runs/"""
    resume: bool = False
    """continue the training in `out`, given the same options, after its last whole epoch"""
    find_lr: bool = False
    """train no network: try out learning rates, suggest bounds and draw the curve"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(BaselineOptions, {"training": BaselineConfig})


def run(settings: dict[str, Any], own: BaselineOptions) -> None:
    """Runs the command."""
    config: BaselineConfig = settings["training"]
    if own.resume and own.out is None:
        raise InputError("`resume` needs `out`, the folder of the training to continue")
    if own.find_lr:
        require_range_test(config, own.resume)
    out = own.out or dated(config.method)
    require_folder(out)
    device = own.machine.chosen
    dataset = own.machine.load(config.data, device)
    if own.find_lr:
        with ProgressBar("range test") as bar:
            path, (lower, upper) = test_learning_rates(config, dataset, out, device, bar)
        print(f"{path}: the loss falls at learning rates from {lower:.2g} to {upper:.2g}")
        print(f"train with --learning-rate {upper:.2g} or less: it is the highest of the training")
        return
    try:
        with ProgressBar(config.method) as bar:
            made = train_baseline(config, dataset, out, device, own.resume, bar)
    except KeyboardInterrupt:
        again = f"the same command with --resume --out {shlex.quote(str(out))}"
        raise KeyboardInterrupt(f"; continue by {again}") from None
    print(f"{made.file}: accuracy {100 * made.accuracy:.2f} % of {dataset.name} test")
    norms = ["--norms", config.norms] if config.norms else []
    words = ["evaluate", str(made.file), "--attack", "standard", "--images", "100", *norms]
    print(f"robustness: {shlex.join(own.machine.command(*words))}")


def require_range_test(config: BaselineConfig, resume: bool) -> None:
    """`InputError` for options of a training that the range test does not have."""
    usual = BaselineConfig()
    given = [
        f"`{name}`"
        for name in ("epochs", "learning_rate", "share_start", "ema_decay")
        if getattr(config, name) != getattr(usual, name)
    ]
    if resume:
        given.append("`resume`")
    if given:
        raise InputError(f"`find_lr` trains no network: leave out {', '.join(given)}")
