"""The Python API: strings or objects in, plain results out, nothing printed.

What a name may stand for, an object may too: a target's class instead of its name, a `Dataset`
instead of a data set's, an `Attack` instead of an attack's.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

import attacks
from hypergen.catalog import ATTACKS
from hypergen.config import DataConfig, TrainConfig
from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.experiments.analyze import AnalyzeConfig, analyze_files, analyze_modules
from hypergen.experiments.baseline import Baseline, train_baseline
from hypergen.experiments.evaluate import EvaluateConfig, evaluate_files, evaluate_modules
from hypergen.experiments.objects import Networks, by_name, dataset_name, load_images, sorted_out
from hypergen.experiments.run import Run, run
from hypergen.experiments.run_folder import ReportConfig, RunSettings, dated
from hypergen.runtime.device import choose_device
from hypergen.runtime.progress import SILENT, ProgressBar
from hypergen.runtime.torch_state import usual_state
from hypergen.settings import fields
from hypergen.storage.folders import CONFIG, expanded
from hypergen.training.direct_config import BaselineConfig
from targets import Ensemble, Population

__all__ = [
    "analyze",
    "attack",
    "baseline",
    "ensemble",
    "evaluate",
    "train",
]

REPORT = [field.short for field in fields(ReportConfig)]


@usual_state()
def train(
    config: TrainConfig | None = None,
    *,
    out: Path | str | None = None,
    dataset: str | Dataset | None = None,
    baselines: bool = True,
    device: str = "auto",
    data_dir: Path | str | None = None,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Trains a generator of network weights, measures its samples, and returns the run.

    The same call with the same `out` goes on where it was, or gives back what is there already.

        >>> run = hypergen.train(  # doctest: +SKIP
        ...     dataset="mnist", beta=0.5, steps=3000, out="runs/a"
        ... )
        >>> run.sample(8)  # doctest: +SKIP

    Args:
        config: what is trained; by default the usual settings.
        out: the run's folder; by default a dated one under runs/.
        dataset: a name, folder:PATH, npz:PATH, torchvision:NAME, or a `Dataset`.
        baselines: whether networks are trained directly beside it, for comparison.
        device: "auto", "cpu" or "cuda".
        data_dir: folder of the data sets; by default HYPERGEN_DATA, else ~/.cache/hypergen.
        progress: show a bar on standard error.
        options: settings by their short names, in the place of those of `config`; also those of
            the report (samples, images, sra_samples, sra_images). `hypergen train --help` lists
            all.

    Raises:
        InputError: settings that cannot be, or a folder that holds something else.
        RunError: the training diverges.
    """
    folder = dated("train") if out is None else expanded(out)
    sizes = ReportConfig.of(**{n: options.pop(n) for n in REPORT if n in options})
    options = by_name(options)
    if dataset is not None:
        options["dataset"] = dataset_name(dataset)
    config = (config or TrainConfig()).replace(**options)
    images = load_images(config.data, dataset, data_dir, device)
    settings = RunSettings(config, images.info, sizes, baselines)
    with ProgressBar("train") if progress else nullcontext(SILENT) as bar:
        resume = (folder / CONFIG).exists()
        return run(settings, images, folder, choose_device(device), resume, bar)


@usual_state()
def baseline(
    config: BaselineConfig | None = None,
    *,
    out: Path | str | None = None,
    dataset: str | Dataset | None = None,
    device: str = "auto",
    data_dir: Path | str | None = None,
    progress: bool = False,
    **options: Any,
) -> Baseline:
    """Trains one network directly: ordinarily, or against attacks.

        >>> hypergen.baseline(method="fbf", dataset="mnist").network  # doctest: +SKIP

    Args:
        config: how it is trained; by default the usual settings.
        out: the folder of network.safetensors; by default a dated one under runs/. A training cut
            short there is continued.
        dataset, device, data_dir, progress: as in `train`.
        options: settings by name, such as method, epochs or epsilon.

    Returns:
        The file, the network, and its accuracy on test images.

    Raises:
        InputError: settings that cannot be, or a folder that holds something else.
        RunError: the training diverges.
    """
    options = by_name(options)
    if dataset is not None:
        options["dataset"] = dataset_name(dataset)
    config = (config or BaselineConfig()).replace(**options)
    folder = dated(config.method) if out is None else expanded(out)
    images = load_images(config.data, dataset, data_dir, device)
    with ProgressBar(config.method) if progress else nullcontext(SILENT) as bar:
        return train_baseline(config, images, folder, choose_device(device), True, bar)


@usual_state()
def evaluate(
    networks: Networks | Iterable[Networks],
    dataset: str | Dataset | None = None,
    *,
    measures: Sequence[str] = (),
    device: str = "auto",
    data_dir: Path | str | None = None,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Measures accuracy and robustness of networks on test images.

        >>> population = hypergen.load_generator("runs/a").sample(8)  # doctest: +SKIP
        >>> figures = hypergen.evaluate(  # doctest: +SKIP
        ...     population, dataset="mnist", epsilon=0.1, attack="standard", images=1000
        ... )
        >>> figures["summary"]["sra"]["mean"]  # doctest: +SKIP

    Args:
        networks: a population, a module, a run, or a path of a run, a folder of samples or a weight
            file; or several, all in memory or all files.
        dataset: images to judge on; of files, by default those that they were made for.
        measures: what else is told of each network, such as ["certified", "int8:bits=4"], on the
            images attacked; `hypergen list measure` lists all.
        device, data_dir, progress: as in `train`.
        options: attack, epsilon, norm, images, steps, restarts, step_size, seed, checks, ensemble,
            norms; as `hypergen evaluate --help` lists them.

    Returns:
        A dictionary of attack, dataset, measures, summary, failed (what gave no numbers, or not
        those of a measure, and why), and networks, a row each with accuracy, robustness, pgd,
        interval, with the attack "standard" sra, and each measure by its name, all in [0,1].

    Raises:
        InputError: options that cannot be, or files that cannot be read.
    """
    modules, paths = sorted_out(networks)
    if bool(modules) == bool(paths):
        raise InputError("expected networks in memory, or paths of some, and not both")
    if dataset is not None:
        options["dataset"] = dataset_name(dataset)
    if "measure" in options:
        raise InputError('unknown setting `measure` (did you mean "measures"?)')
    config = EvaluateConfig.of(**options, measure=measures)
    folder = None if data_dir is None else expanded(data_dir)
    where = choose_device(device)
    own = None
    if isinstance(dataset, Dataset):
        images = DataConfig(dataset.name, config.image_size, config.grey)
        own = load_images(images, dataset, data_dir, device)
    with ProgressBar("evaluate") if progress else nullcontext(SILENT) as bar:
        if paths:
            return evaluate_files(paths, config, where, folder, progress=bar, dataset=own)
        return evaluate_modules(modules, config, where, folder, own, bar)


@usual_state()
def analyze(
    networks: Mapping[str, Networks | Iterable[Networks]] | Networks | Iterable[Networks],
    what: str | Sequence[str] = (),
    dataset: str | Dataset | None = None,
    *,
    out: Path | str | None = None,
    device: str = "auto",
    data_dir: Path | str | None = None,
    progress: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Looks at the geometry of networks.

        >>> found = hypergen.analyze(  # doctest: +SKIP
        ...     {"generated": run.sample(8), "fbf": network}, "regions", dataset="mnist"
        ... )

    Args:
        networks: groups of networks in memory, each by its name; or what `evaluate` takes, which is
            one group if in memory, and a group a path if not (the baselines of a run stand beside
            its samples).
        what: names of analyses (`hypergen list analysis`); by default those that take minutes.
        dataset: whose images are looked at; of files, by default those that they were made for.
        out: folder for results.json and a picture of each analysis; by default nothing is written.
        device, data_dir, progress: as in `train`.
        options: count (networks of each group, the first), images, epsilon, norm and others; as
            `hypergen analyze --help` lists them.

    Returns:
        A dictionary of dataset, attack, groups, and `analyses` by name, each with title, figures
        (what they mean), rows (one a network), skipped (groups it says nothing of, and why) and
        failed (what it broke on).

    Raises:
        InputError: options that cannot be, or files that cannot be read.
    """
    named = networks if isinstance(networks, Mapping) else {"networks": networks}
    found = {str(name): sorted_out(each) for name, each in named.items()}
    empty = [name for name, each in found.items() if not any(each)]
    if empty or len(found) < len(named):
        raise InputError("each group needs networks, and a name of its own")
    modules = {name: own for name, (own, _) in found.items() if own}
    paths = [path for _, own in found.values() for path in own]
    if bool(modules) == bool(paths):
        raise InputError("expected networks in memory, or paths of some, and not both")
    if dataset is not None:
        options["dataset"] = dataset_name(dataset)
    config = AnalyzeConfig.of(**options, what=(what,) if isinstance(what, str) else what)
    if modules and config.dataset is None:
        raise InputError("networks in memory name no data set; give a `dataset`")
    own = None
    if config.dataset is not None and (modules or isinstance(dataset, Dataset)):
        images = DataConfig(config.dataset, config.image_size, config.grey)
        own = load_images(images, dataset, data_dir, device)
    folder = None if out is None else expanded(out)
    with ProgressBar("analyze") if progress else nullcontext(SILENT) as bar:
        if own is not None and modules:
            return analyze_modules(modules, config, folder, own, bar)
        where = None if data_dir is None else expanded(data_dir)
        return analyze_files(paths, config, folder, choose_device(device), where, bar, own)


def attack(
    name: str | attacks.Attack,
    network: Callable[[Tensor], Tensor],
    images: Any,
    labels: Any,
    **options: Any,
) -> attacks.AttackResult:
    """Attacks one network, of which nothing is asked but to map images to logits.

        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))
        >>> images, labels = torch.rand(5, 1, 2, 2), torch.tensor([0, 1, 2, 0, 1])
        >>> result = hypergen.attack("pgd", network, images, labels, epsilon=0.1, steps=5)
        >>> result.images.shape
        torch.Size([5, 1, 2, 2])
        >>> result.robust_mask.shape
        torch.Size([5])

    Args:
        name: of an attack (`hypergen list attack`), or an `Attack`.
        network: images [B,C,H,W] in [0,1] -> logits [B,K].
        images: [B,C,H,W] in [0,1], a tensor or array; labels: [B] integers.
        options: epsilon, norm ("linf" unless given), seed, and those of the attack.

    Returns:
        images [B,C,H,W], robust_mask [B], masks by attack, and robust_accuracy.

    Raises:
        InputError or AttackError: an unknown name or option, or bad input.
    """
    if isinstance(name, str):
        ATTACKS.get(name)  # which knows the nearest name
    return attacks.attack(name, network, images, labels, **options)


def ensemble(population: Population) -> Ensemble:
    """The networks of a population as one that votes.

        >>> voters = hypergen.ensemble(run.sample(8))  # doctest: +SKIP

    Returns:
        A module from images [B,C,H,W] in [0,1] to the log of the mean soft-max, [B,K].

    Raises:
        TargetError: no population, or one of no networks.
    """
    return Ensemble(population)
