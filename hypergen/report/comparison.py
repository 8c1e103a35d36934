"""Tables and rows of groups of networks side by side."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hypergen.report.names import tails
from hypergen.report.plots import heading
from hypergen.report.scatter import scatter
from hypergen.report.tables import (
    MISSING,
    Table,
    images_text,
    mean_and_std,
    percent,
    threat_text,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def group_names(result: Mapping[str, Any]) -> dict[str, str]:
    """What each group is called, by its path: the end of it that no other path has."""
    return tails([group["path"] for group in result["groups"]])


def comparison_table(result: Mapping[str, Any]) -> Table:
    """A row a group, and by how much it lies above the first.

    result: as `experiments.side_by_side.compare` returns it.
    """
    attack = result["attack"]
    strongest = "sra" if attack["name"] == "standard" else attack["name"]
    figures = {"accuracy": "accuracy", "pgd": "pgd", "robustness": strongest}
    if strongest == attack.get("pgd", attack)["name"]:
        del figures["pgd"]
    rows, names = [], group_names(result)
    for group in result["groups"]:
        apart = group.get("differences", {})
        cells = [mean_and_std(group["summary"].get(name)) for name in figures]
        cells += [percent(group["disagreement"]), f"{group['hypervolume']:.4f}"]
        cells += [_apart(apart.get(name)) for name in ("accuracy", "robustness")]
        rows.append((names[group["path"]], str(len(group["networks"])), *cells))
    notes = [
        f"% of {result['dataset']} {images_text(attack)}, mean +- standard deviation over "
        f"networks; accuracy on all, attacks on the first {attack['images']}; "
        f"{threat_text(attack['threat'])}, {attack['name']}",
        "above: points by which the mean lies above that of the first group, with the 95 % "
        "interval that so few networks and the same images leave",
        "disagree: % of images that two networks of a group class differently; hypervolume: the "
        "share of all that is better than guessing which a group reaches",
    ]
    above = "accuracy above", f"{strongest} above"
    return Table(
        ("group", "networks", *figures.values(), "disagree", "hypervolume", *above), rows, notes
    )


def _apart(difference: Mapping[str, float] | None) -> str:
    """ "+1.2 (-0.3 to +2.7)" """
    if difference is None:
        return MISSING
    mean, low, high = (f"{100 * difference[name]:+.1f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def settings_table(result: Mapping[str, Any]) -> Table | None:
    """The settings in which groups differ, a column a group; None where there is none."""
    if not result["settings"]:
        return None
    names = group_names(result)
    groups = [names[group["path"]] for group in result["groups"]]
    rows = [
        (name, *(MISSING if value is None else str(value) for value in values))
        for name, values in result["settings"].items()
    ]
    return Table(("setting", *groups), rows)


def comparison_picture(result: Mapping[str, Any]) -> "Figure":
    """Accuracy against robustness, a point a network; a group is called by the end of its path.

    result: as `comparison_table` takes it.
    """
    attack = result["attack"]
    names = group_names(result)
    points = [
        {**row, "kind": names[group["path"]]}
        for group in result["groups"]
        for row in group["networks"]
    ]
    said = "SRA" if attack["name"] == "standard" else attack["name"]
    images = {"accuracy": result["all_images"], "robustness": attack["images"]}
    title = heading("Groups of networks side by side, a point a network", result)
    return scatter(points, "robustness", title, said, images)
