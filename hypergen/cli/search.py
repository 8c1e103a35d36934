"""`hypergen search`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.machine import Machine
from hypergen.cli.opening import opened
from hypergen.cli.options import Command
from hypergen.experiments.search import SearchConfig, search
from hypergen.report.fronts import search_table
from hypergen.runtime.progress import ProgressBar
from hypergen.settings import Settings


@dataclass(frozen=True)
class SearchOptions(Settings):
    """Search the latent space of a trained generator; judge the best networks and write them."""

    run: Path
    """folder of a run"""
    out: Path | None = None
    """folder for the networks; by default search-seedS in that of the run, S being the seed"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(SearchOptions, {"search": SearchConfig})


def run(settings: dict[str, Any], own: SearchOptions) -> None:
    """Runs the command."""
    options: SearchConfig = settings["search"]
    out = own.out or own.run / f"search-seed{options.seed}"
    sampler, dataset = opened(own.run, out, own.machine)
    with ProgressBar("search") as bar:
        result = search(sampler, dataset, out, options, bar)
    print(search_table(result))
    count = len(result["networks"])
    print(f"written to {out}: results.json, scatter.png, report.html and {count} networks")
