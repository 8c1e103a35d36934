"""How far off the estimates of a run's value network are, as the run itself has found."""

from collections.abc import Sequence
from pathlib import Path

from hypergen.experiments.run_folder import read_metrics, read_results


def typical_errors(folder: Path, measures: Sequence[str]) -> tuple[str, dict[str, float]]:
    """By how much V's estimates of each measure were off when the run itself checked them, and how.

    The mean over the samples of the run's report, where there is one; else what the last check of
    the training found. Measures that nobody checked are left out.
    """
    results = read_results(folder)
    found = (results or {}).get("value_network") or {}
    if results is not None and found:
        errors = {name: found[name]["mean_error"] for name in measures if name in found}
        return f"the mean over the {results['report']['samples']} samples of its report", errors
    for row in reversed(read_metrics(folder)):
        keys = {name: f"check/{name}/overestimate" for name in measures}
        errors = {name: abs(row[key]) for name, key in keys.items() if key in row}
        if errors:
            return f"the last check of its training, after step {row['step']}", errors
    return "", {}
