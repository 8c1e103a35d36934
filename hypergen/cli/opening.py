"""A run that a command draws networks from."""

from pathlib import Path

from hypergen.cli.machine import Machine
from hypergen.data import Dataset
from hypergen.evaluation.sampler import Sampler
from hypergen.experiments.run import load_generator
from hypergen.experiments.run_folder import RunSettings
from hypergen.storage.folders import require_folder


def opened(run: Path, out: Path, machine: Machine) -> tuple[Sampler, Dataset]:
    """The generator of a run, and its images.

    `InputError`: no run, or an `out` that cannot be written to, which is told before any is loaded.
    """
    images = RunSettings.load(run).config.data
    require_folder(out)
    dataset = machine.load(images, machine.chosen)
    return load_generator(run, dataset), dataset
