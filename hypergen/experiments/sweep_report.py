"""What a sweep tells at its end beside its front: how it got there, which settings mattered."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from hypergen.config import TrainConfig
from hypergen.evaluation.trade_off import hypervolume
from hypergen.experiments.pruning import reached
from hypergen.report.page.blocks import Page
from hypergen.report.page.sweep import sweep_page
from hypergen.report.plots import write_pictures
from hypergen.report.sweep_plots import (
    history_curve,
    importance_bars,
    parallel_coordinates,
    sweep_title,
    trials_picture,
)
from hypergen.storage.atomic import read_json
from hypergen.storage.impersonal import impersonal_tree

SETTINGS, PARALLEL = "sweep.json", "parallel.png"


def about(config: TrainConfig, varied: Iterable[str]) -> dict[str, Any]:
    """The `targets` and the `threat` of all trials; none and None where these are varied."""
    varied = {*varied}
    known = {"norm": config.threat.norm, "epsilon": config.threat.epsilon}
    return {
        "targets": [] if "target" in varied else [config.target],
        "threat": None if varied & {*known} else known,
    }


def of_front(
    study: optuna.Study,
    front: Mapping[int, Mapping[str, float] | None],
    measures: Sequence[str],
    num_classes: int,
) -> dict[str, Any]:
    """What results.json says of a whole sweep: `hypervolume` and `importance`.

    front: the measures on test images of each trial on the front, None where it was not judged.
    """
    judged = [[own[name] for name in measures] for own in front.values() if own]
    on_test = hypervolume(judged, num_classes) if judged else None
    volumes = {"history": history(study, num_classes), "test": on_test}
    return {"hypervolume": volumes, "importance": importance(study, measures)}


def finished(
    study: optuna.Study,
    origin: Callable[[FrozenTrial], str],
    measures: Sequence[str],
    varied: Sequence[str],
    front: Mapping[int, Mapping[str, float] | None],
) -> list[dict[str, Any]]:
    """A row for each finished trial, best first in the measure shown beside accuracy.

    Its run, its measures on validation images, its settings, and under `test` what `front` says.
    origin: as in `pruned`; front: as in `of_front`.
    """
    rows = [
        {
            "kind": "front" if trial.number in front else "dominated",
            "run": origin(trial),
            "split": "val",
            **dict(zip(measures, trial.values, strict=True)),
            "test": front.get(trial.number),
            **{name: trial.params.get(name) for name in varied},
        }
        for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    ]
    return sorted(rows, key=lambda row: row[measures[1]], reverse=True)


def pruned(
    study: optuna.Study,
    origin: Callable[[FrozenTrial], str],
    measures: Sequence[str],
    varied: Sequence[str],
) -> list[dict[str, Any]]:
    """A row for each trial that was pruned: its run, the last rung, its settings.

    `at_rung` are its measures there, by name. `rung` is None where somebody else pruned it.
    origin: of a trial to its run, as `Sweep.origin`.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)):
        row: dict[str, Any] = {"kind": "pruned", "run": origin(trial), "rung": None}
        own = reached(trial, len(measures))
        if own:
            row["rung"] = max(own)
            row["at_rung"] = dict(zip(measures, own[row["rung"]][0], strict=True))
        rows.append(row | {name: trial.params.get(name) for name in varied})
    return rows


def history(study: optuna.Study, num_classes: int) -> list[float]:
    """The hypervolume on validation images after each finished trial, in the order they ended."""
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    finished.sort(key=lambda trial: (trial.datetime_complete is None, trial.datetime_complete))
    points = [trial.values for trial in finished]
    return [hypervolume(points[:count], num_classes) for count in range(1, len(points) + 1)]


def importance(study: optuna.Study, measures: Sequence[str]) -> dict[str, dict[str, float]]:
    """What share of a measure's variance over trials each varied setting explains, by measure.

    By functional analysis of variance of random forests (Hutter et al. 2014), which Optuna has.
    A measure that is the same in all trials has none.
    """
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    found: dict[str, dict[str, float]] = {}
    for place, name in enumerate(measures):
        found[name] = {}
        if len({trial.values[place] for trial in finished}) > 1:
            shares = optuna.importance.get_param_importances(
                study,
                evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0),
                target=lambda trial, place=place: trial.values[place],
            )
            found[name] = {setting: float(share) for setting, share in shares.items()}
    return found


def draw(folder: Path, result: Mapping[str, Any]) -> None:
    """Draws the trials, the hypervolume's history, what mattered, and settings beside figures."""
    rows = result["trials"]
    write_pictures(folder / "scatter.png", trials_picture(result))
    if not rows:
        return
    said = f"{len(rows)} trials of a sweep (validation images)"
    values = result["hypervolume"]["history"]
    title = sweep_title(f"What the front has reached after each of {said}", result)
    write_pictures(folder / "hypervolume.png", history_curve(values, title))
    if any(result["importance"].values()):
        title = sweep_title(f"Which settings matter among {said}", result)
        write_pictures(folder / "importance.png", importance_bars(result["importance"], title))
    title = sweep_title(f"Settings and figures, a line for each of {said}", result)
    figure = parallel_coordinates(rows, result["varied"], result["measures"], title)
    write_pictures(folder / PARALLEL, figure)


def page_of_sweep(folder: Path, result: Mapping[str, Any]) -> Page:
    """The page of a sweep, of what its folder holds beside its results."""
    settings, picture = folder / SETTINGS, folder / PARALLEL
    return sweep_page(
        folder.absolute().name,
        result,
        impersonal_tree(read_json(settings)) if settings.exists() else {},
        picture.read_bytes() if picture.exists() else None,
    )
