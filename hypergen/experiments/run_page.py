"""Gathers what is known of a run into its page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypergen.experiments.command_line import making_line
from hypergen.experiments.made_by import making_of_run
from hypergen.experiments.run_folder import RESULTS, RunSettings, read_metrics
from hypergen.experiments.sample import CURVE
from hypergen.report.page.analyses import Found
from hypergen.report.page.attacks import AttackedSample
from hypergen.report.page.blocks import Page
from hypergen.report.page.run import RunFound, run_page
from hypergen.storage.atomic import read_json
from hypergen.storage.folders import CONFIG
from hypergen.storage.impersonal import impersonal, impersonal_tree

ANALYSIS = "analysis"
"""The folder, in that of a run, where `hypergen analyze` writes."""
CHECKS = "checks.json"
"""The file there that a page takes the verdicts of `hypergen evaluate --checks` from."""


def page_of_run(
    folder: Path,
    result: Mapping[str, Any],
    attacked: Sequence[AttackedSample] = (),
    missing: str = "",
) -> Page:
    """The page of a run, of what its folder holds beside its results.

    attacked: images to show, attacked against samples; missing: why there are none.
    """
    settings = RunSettings.load(folder)
    return run_page(
        RunFound(
            folder.absolute().name,
            result,
            impersonal_tree(read_json(folder / CONFIG)),
            [*filter(None, map(numbers, read_metrics(folder)))],
            making_line(making_of_run(settings)),
            spent(settings),
            attacked,
            " ".join(map(impersonal, missing.split(" "))),
            {path.parent.name: read_json(path) for path in sorted(folder.glob(f"*/{CURVE}"))},
            analyses_in(folder / ANALYSIS),
            checked_in(folder / CHECKS),
        )
    )


def numbers(row: Mapping[str, Any]) -> Mapping[str, float]:
    """What is a number in a row of metrics.jsonl; nothing where its step is none."""
    known = {name: value for name, value in row.items() if isinstance(value, int | float)}
    return known if "step" in known else {}


def analyses_in(folder: Path) -> Found | None:
    """What analyses have left in a folder; None where there is none of it."""
    path = folder / RESULTS
    if not path.exists():
        return None
    result = read_json(path)
    if not isinstance(result.get("analyses"), dict):
        return None
    pictures = {name: folder / f"{name}.png" for name in result["analyses"]}
    return Found(result, {n: file.read_bytes() for n, file in pictures.items() if file.exists()})


def checked_in(file: Path) -> list[Mapping[str, Any]]:
    """The networks that an evaluation with checks looked at, by its file; none where it is not."""
    rows = read_json(file).get("networks", []) if file.exists() else []
    return [row for row in rows if "verdict" in row]


def spent(settings: RunSettings) -> dict[str, str]:
    """What a training took, by its settings."""
    config = settings.config
    step = config.optimisation
    images = step.length * step.population * step.batch_size
    gradients = images * (config.attack_steps + 1)
    return {
        "started from": impersonal(config.start or "an untrained network"),
        "steps of an attack": str(config.attack_steps),
        "steps": f"{step.length:,} of {step.population} networks and {step.batch_size} images",
        "gradients in training": f"{gradients:,}, each of one network and one image, by the "
        "settings (steps of attacks that were raised meanwhile come on top; baselines too)",
    }
