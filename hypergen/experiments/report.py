"""The report of what stands in folders: a run, a sweep, a search, analyses, or several runs."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, get_args

import torch

from attacks import AttackError
from hypergen import data
from hypergen.errors import InputError
from hypergen.experiments.attacked_samples import SAMPLES, attacked_samples
from hypergen.experiments.compare import judge_of
from hypergen.experiments.pages import Format, browser, write_page
from hypergen.experiments.run_folder import RESULTS, RunSettings, read_results
from hypergen.experiments.run_page import analyses_in, page_of_run
from hypergen.experiments.side_by_side import CompareConfig, compare
from hypergen.experiments.sweep_report import SETTINGS as SWEEP
from hypergen.experiments.sweep_report import page_of_sweep
from hypergen.report.comparison import group_names
from hypergen.report.page.analyses import analysis_page
from hypergen.report.page.attacks import AttackedSample
from hypergen.report.page.blocks import Page
from hypergen.report.page.comparison import comparison_page
from hypergen.report.page.search import search_page
from hypergen.report.verdict import sentences
from hypergen.runtime.device import choose_device
from hypergen.runtime.progress import SILENT, Progress, ProgressBar
from hypergen.runtime.torch_state import usual_state
from hypergen.storage.atomic import read_json
from hypergen.storage.folders import CONFIG, expanded
from hypergen.storage.network_files import find, open_networks
from hypergen.storage.result_files import require_writable
from targets import Population, TargetError


@usual_state()
def write_report(
    paths: Path | str | Sequence[Path | str],
    *,
    out: Path | str | None = None,
    form: Format = "html",
    device: str = "auto",
    data_dir: Path | str | None = None,
    progress: bool = False,
    **options: Any,
) -> Path:
    """Writes the report of a run or of a sweep, or of several side by side, as one file.

        >>> hypergen.write_report("runs/a")  # doctest: +SKIP
        PosixPath('runs/a/report.html')

    Args:
        paths: the folder of a run, a sweep, a search or analyses; or several runs, sweeps, folders
            of samples and weight files, whose networks are judged anew on the same images.
        out: the file; by default report.html (.md, .pdf) in the folder, of several in the current
            one.
        form: "html", one file that needs no other; "md", its tables as Markdown; or "pdf", printed
            by Chromium or Google Chrome.
        device: "auto", "cpu" or "cuda".
        data_dir: folder of the data sets; by default HYPERGEN_DATA, else ~/.cache/hypergen.
        progress: show a bar on standard error.
        options: how several are judged: attack, images and others, as `hypergen report --help`
            lists them.

    Returns:
        The file.

    Raises:
        InputError: a folder without results, a file that cannot be written, or no browser.
    """
    several = [paths] if isinstance(paths, str | Path) else paths
    if form not in get_args(Format):
        raise InputError(f"`form` must be one of {', '.join(get_args(Format))}, got {form!r}")
    with ProgressBar("report") if progress else nullcontext(SILENT) as bar:
        return report_files(
            [expanded(path) for path in several],
            CompareConfig.of(**options),
            None if out is None else expanded(out),
            form,
            choose_device(device),
            None if data_dir is None else expanded(data_dir),
            bar,
        )


def report_files(
    paths: Sequence[Path],
    options: CompareConfig,
    out: Path | None,
    form: Format,
    device: torch.device,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Writes the report of one path, or of several side by side; the file that it is in.

    paths: folders of runs, sweeps, searches and analyses; of several, whatever `compare` takes.
    options: by what several are judged, as by `compare`; those of one path are not judged anew.
    out: the file; by default report.html (.md, .pdf) in the folder, of several in the current one.
    `InputError`: a folder that holds no results, a file that cannot be written, or no browser.
    """
    if not paths:
        raise InputError("a report needs the folder of a run or of a sweep")
    alone = expanded(paths[0]) if len(paths) == 1 else None
    file = out or (alone or Path()) / f"report.{form}"
    if form == "pdf":
        browser()
    if alone is not None and not alone.is_dir():
        raise InputError(f"{alone} is not the folder of a run or of a sweep")
    require_writable(file)
    if alone is None:
        page = page_of_several(paths, options, device, data_dir, progress)
    else:
        page = page_of(alone, device, data_dir)
    write_page(file, page, form)
    return file


def page_of(folder: Path, device: torch.device, data_dir: Path | None = None) -> Page:
    """The page of what a folder holds. `InputError`: nothing that there is a page of."""
    if (folder / SWEEP).exists():
        return _built(folder, lambda tree: page_of_sweep(folder, tree))
    if (folder / CONFIG).exists():
        result = read_results(folder)
        if result is None:
            raise InputError(f"{folder} has no {RESULTS} yet: let it end, or resume it")
        attacked, missing = attacked_in(folder, device, data_dir)
        return _built(folder, lambda tree: page_of_run(folder, tree, attacked, missing))
    analyses = analyses_in(folder)
    if analyses is not None:
        return _built(folder, lambda tree: analysis_page(folder.absolute().name, analyses))
    return _built(folder, lambda tree: search_page(folder.absolute().name, tree))


def _built(folder: Path, build: Callable[[dict[str, Any]], Page]) -> Page:
    path = folder / RESULTS
    if not path.exists():
        raise InputError(f"{folder} has no {RESULTS}: it is no run, sweep, search or analysis")
    try:
        return build(read_json(path))
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration):
        raise InputError(f"{path} is damaged, or of another version of hypergen") from None


def attacked_in(
    folder: Path, device: torch.device, data_dir: Path | None
) -> tuple[list[AttackedSample], str]:
    """Images attacked against samples of a run; without its data or samples, why there are none."""
    settings = RunSettings.load(folder)
    images = settings.config.data
    try:
        networks = open_networks(find([folder])[:SAMPLES])
        dataset = data.load(images.name, data_dir, device, images.image_size, images.grey)
        if dataset.info != settings.info:
            raise InputError(f"the data set {images.name} is not the one of the run")
        population = Population.of(network.module.to(dataset.device) for network in networks)
        names = [network.path.stem for network in networks]
        judge = judge_of(settings.config, settings.report)
        return attacked_samples(population, names, dataset, judge), ""
    except (InputError, AttackError, TargetError) as error:
        return [], str(error)


def page_of_several(
    paths: Sequence[Path],
    options: CompareConfig,
    device: torch.device,
    data_dir: Path | None,
    progress: Progress,
) -> Page:
    """The page of groups of networks side by side, judged anew on the same images."""
    result = compare(paths, options, device, data_dir, None, progress)
    names = group_names(result)
    for group in result["groups"]:
        for row in group["networks"]:
            row["file"] = row["file"].replace(group["path"], names[group["path"]], 1)
    return comparison_page(result, verdicts(result))


def verdicts(result: Mapping[str, Any]) -> dict[str, str]:
    """What the report of each run among the groups came to, by its path."""
    found = {}
    for group in result["groups"]:
        folder = expanded(group["path"])
        own = read_results(folder) if (folder / CONFIG).exists() else None
        if own is not None:
            found[group["path"]] = sentences(own)[0]
    return found
