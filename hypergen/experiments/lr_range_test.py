"""The learning-rate range test as a command runs it: bounds, and a picture in a folder."""

from pathlib import Path

import torch

from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.report.plots import learning_rate_curve, write_pictures
from hypergen.runtime.progress import SILENT, Progress
from hypergen.storage.lock import locked
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.lr_range_test import STEPS, range_test, suggested_bounds

PICTURE = "learning-rate.png"


def test_learning_rates(
    config: BaselineConfig,
    dataset: Dataset,
    out: Path,
    device: torch.device,
    progress: Progress = SILENT,
) -> tuple[Path, tuple[float, float]]:
    """Writes out/learning-rate.png and .svg; its path, and the lower and the upper bound.

    `InputError`: there is such a picture already. `RunError`: the loss explodes at once.
    """
    path = out / PICTURE
    if path.exists():
        raise InputError(f"{path} exists; choose another `out`")
    with locked(out):
        progress.start(STEPS)
        rates, losses = range_test(config, dataset, device, STEPS, progress.advance)
        bounds = suggested_bounds(rates, losses)
        about = f"{dataset.title}, {config.target}"
        title = f"Learning-rate range test: {config.method} training\n{about}"
        if config.method != "standard":
            title += "".join(
                f", {each.norm}, epsilon {each.epsilon:.4g}" for each in config.threats
            )
        write_pictures(path, learning_rate_curve(rates, losses, bounds, title))
    return path, bounds
