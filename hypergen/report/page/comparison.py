"""The page of several groups of networks side by side."""

from collections.abc import Mapping
from typing import Any

from hypergen.report.comparison import comparison_table, group_names, settings_table
from hypergen.report.page.blocks import Block, Card, Figures, Page, Section
from hypergen.report.page.charts import scatter
from hypergen.report.tables import Table, mean_and_std, percent, threat_text
from hypergen.report.verdict import Difference


def comparison_page(result: Mapping[str, Any], verdicts: Mapping[str, str]) -> Page:
    """The page of a comparison.

    result: as `experiments.side_by_side.compare` returns it; verdicts: what each run by itself came
    to, by its path.
    """
    strongest = "SRA" if result["attack"]["name"] == "standard" else result["attack"]["name"]
    differing, names = settings_table(result), group_names(result)
    own = Table(("run", "verdict"), [(names[path], said) for path, said in verdicts.items()])
    parts: dict[str, list[Block]] = {
        "Side by side": [
            Figures("All judged anew, on the same images", comparison_table(result)),
            scatter(
                "A point a network; bars are the 95 % intervals that so few attacked images leave",
                [
                    {**row, "kind": names[group["path"]]}
                    for group in result["groups"]
                    for row in group["networks"]
                ],
                {strongest: ("robustness", "interval")},
                networks_table(result, strongest),
            ),
        ],
        "Settings that differ": [Figures("A column a group", differing)] if differing else [],
        "Each by itself": [Figures("What each run came to", own)] if verdicts else [],
    }
    groups = result["groups"]
    return Page(
        " and ".join(names[group["path"]] for group in groups),
        f"{result['dataset']}, {threat_text(result['attack']['threat'])}",
        f"How do {len(groups)} groups of networks differ in accuracy and {strongest} on the same "
        f"{result['dataset']} images?",
        verdict(result, strongest),
        [],
        [
            Card(
                names[group["path"]],
                f"{mean_and_std(group['summary']['accuracy'])} %",
                f"{strongest} {mean_and_std(group['summary']['robustness'])} %",
            )
            for group in groups
        ],
        [Section(title, blocks) for title, blocks in parts.items() if blocks],
        result,
    )


def verdict(result: Mapping[str, Any], strongest: str) -> str:
    """What can be told apart from the first group."""
    first, *others = result["groups"]
    names, told = group_names(result), []
    figures = {"accuracy": "accuracy", "robustness": strongest}
    for group in others:
        found = [Difference(figures[name], **own) for name, own in group["differences"].items()]
        better = [str(each) for each in found if each.better]
        worse = [str(each) for each in found if each.worse]
        parts = [
            f"{word} in {' and '.join(own)}"
            for word, own in (("better", better), ("worse", worse))
            if own
        ]
        known = " and ".join(parts) or "no different in either"
        told.append(f"{names[group['path']]} is {known}")
    return f"Compared with {names[first['path']]}, {'; '.join(told)}."


def networks_table(result: Mapping[str, Any], strongest: str) -> Table:
    """A row a network."""
    names = group_names(result)
    rows = [
        (row["file"], names[group["path"]], percent(row["accuracy"]), percent(row["robustness"]))
        for group in result["groups"]
        for row in group["networks"]
    ]
    return Table(("network", "group", "accuracy", strongest), rows)
