"""Searches the latent space of a generator for the best networks in several measures at once.

The value network looks at many candidates. Few of them, those that it thinks best, are measured on
validation images. The front of these is judged on test images, by which nothing was chosen.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor

from hypergen import __version__
from hypergen.data import Dataset, Split
from hypergen.data.memory import drawn_networks, require_memory
from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.selection import attack_schedule
from hypergen.evaluation.statistics import summarise
from hypergen.evaluation.trade_off import hypervolume, on_front, spread
from hypergen.experiments.latent_search import Candidates, Method, propose
from hypergen.experiments.pages import REPORT, write_page
from hypergen.experiments.run_folder import RESULTS, require_empty
from hypergen.experiments.sample import further_measures, save_samples, verify
from hypergen.measures import Stage, judged
from hypergen.measures.attacked import accuracies
from hypergen.report.page.search import search_page
from hypergen.report.plots import heading, write_pictures
from hypergen.report.scatter import scatter
from hypergen.runtime.fitting import usable_memory
from hypergen.runtime.progress import SILENT, Progress
from hypergen.runtime.sessions import SESSIONS, Sessions
from hypergen.settings import COUNT, SEED, Range, Settings
from hypergen.storage.atomic import write_json
from hypergen.storage.lock import locked
from targets import Population, WeightLayout

CHUNK = 8
"""Networks that are measured together."""
SHARES = {"proposing": 1.0, "measuring": 1.0, "verifying": 1.0}
"""About what each part costs, as usual sizes have it."""


@dataclass(frozen=True)
class SearchConfig(Settings):
    """How the latent space is searched."""

    candidates: Annotated[int, COUNT] = 500
    """latent samples, with preferences of the run's range, that the value network looks at"""
    budget: Annotated[int, COUNT] = 32
    """networks measured on validation images, those that the value network thinks best"""
    keep: Annotated[int, COUNT] = 8
    """networks of the front of these that are judged on test images and written, at most"""
    method: Method = "gradient"
    """what proposes candidates: the gradient of the value network, or one of Optuna's samplers"""
    seed: Annotated[int, SEED] = 2
    """of the search"""
    images: Annotated[int, Range(2)] = 200
    """of validation to choose and of test to judge"""

    def require(self) -> None:
        for name, most, of in (
            ("budget", self.candidates, "candidates"),
            ("keep", self.budget, "budget"),
        ):
            if getattr(self, name) > most:
                raise InputError(
                    f"`{name}` must be at most `{of}` ({most}), got {getattr(self, name)}"
                )


def search(
    sampler: Sampler,
    dataset: Dataset,
    out: Path,
    options: SearchConfig,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Searches, and writes networks, results.json, scatter.png, .svg and report.html to `out`.

    Returns what results.json holds: networks (a row each that is kept, with its file, its figures
    on test images and, under `val`, those on as many validation images), their summary,
    `measured` (all that was measured on validation images to choose, with V's estimates), and
    hypervolumes: of the kept networks on both kinds of images.
    `InputError`: a folder that is not empty, or more networks than the memory holds.
    """
    sessions = Sessions(dataset.device)
    require_empty(out)
    if len(sampler.measures) == 1:
        raise InputError("this run has accuracy alone as its measure: there is no front to search")
    size = WeightLayout.of(sampler.models.target).size
    require_memory([drawn_networks(options.budget, size, "budget")], usable_memory(dataset.device))
    phases = progress.split(SHARES)
    with locked(out):
        require_empty(out)
        looked_at = options.candidates, options.method, options.seed
        candidates = propose(sampler, dataset, *looked_at, phases["proposing"])
        best = spread(candidates.estimates.tolist(), options.budget, dataset.num_classes)
        measuring = dataset.val, options.images, options.seed, phases["measuring"]
        measured = measure(sampler, candidates, best, *measuring)
        kept = kept_of(measured, options.keep, dataset.num_classes)
        population = sampler.generate(*given(sampler, kept))
        judging = sampler, population, dataset, options.images, options.seed
        rows, attack = judge(kept, *judging, phases["verifying"])
        paths = save_samples(out, sampler, population, rows)
        rows = [{**row, "file": path.name} for row, path in zip(rows, paths, strict=True)]
        result = result_of(sampler, dataset, rows, attack, measured, options)
        result[SESSIONS] = sessions.rows()
        draw(out / "scatter.png", result)
        write_page(out / REPORT, search_page(out.absolute().name, result))
        write_json(out / RESULTS, result)
    return result


def measure(
    sampler: Sampler,
    candidates: Candidates,
    best: Sequence[int],
    split: Split,
    images: int,
    seed: int,
    progress: Progress = SILENT,
) -> list[dict[str, Any]]:
    """A row for each of the best candidates: z, preference, what V estimated, what was measured.

    Accuracy on all images, the rest on the first ones, with an attack that ranks networks as the
    standard ones do (see `evaluation.selection`).
    """
    stage = Stage(lambda threat: attack_schedule(threat)[1], seed)
    used = split.first(images)
    progress.start(len(best))
    rows = []
    for some in torch.tensor(best).split(CHUNK):
        z, preference = candidates.z[some], candidates.preference[some]
        population = sampler.generate(z, preference)
        figures = judged(sampler.measures, population, *used, stage)
        figures[:, 0] = accuracies(population, *split.first(len(split)))
        for index, own_z, asked, values in zip(some, z, preference, figures, strict=True):
            row = {"z": own_z.tolist(), **sampler.preference_row(asked)}
            row["estimated"] = sampler.named(candidates.estimates[index])
            rows.append(row | {"measured": sampler.named(values)})
        progress.advance(len(some))
    return rows


def kept_of(rows: list[dict[str, Any]], keep: int, num_classes: int) -> list[dict[str, Any]]:
    """At most `keep` rows of the front of what was measured, spread over it."""
    points = [[*row["measured"].values()] for row in rows]
    front = [row for row, is_on in zip(rows, on_front(points), strict=True) if is_on]
    points = [[*row["measured"].values()] for row in front]
    return [front[index] for index in spread(points, keep, num_classes)]


def given(sampler: Sampler, rows: list[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """What the generator is given for the networks of these rows: z [P,Z] and preferences."""
    knob = sampler.config.knob
    if sampler.config.objective.has_many_preferences:
        preference = [[*row["preference"].values()] for row in rows]
    else:  # where measures have fixed weights, rows tell these, which no generator is given
        preference = [knob.given(row.get(knob.name, knob.low)) for row in rows]
    return torch.tensor([row["z"] for row in rows]), torch.tensor(preference)


def judge(
    kept: list[dict[str, Any]],
    sampler: Sampler,
    population: Population,
    dataset: Dataset,
    images: int,
    seed: int,
    progress: Progress,
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The kept rows with their figures on test images and, under `val`, on as many others.

    Both by the same attacks, so that their difference is what choosing flattered. Beside the rows
    stands the attack on test images.
    """
    phases = progress.split({"val": 1.0, "test": 1.0})
    judging = sampler, population, dataset, images, seed
    on_val, _ = verify(*judging, phases["val"], "val")
    on_test, attack = verify(*judging, phases["test"], "test")
    rows = [
        {**row, **figures, "val": {name: val[name] for name in figures_of(sampler)}}
        for row, figures, val in zip(kept, on_test, on_val, strict=True)
    ]
    return rows, attack


def figures_of(sampler: Sampler) -> list[str]:
    """What the measures of a run are called in a row of `verify`: robustness is SRA there."""
    names = {"robustness": "sra"}
    return [names.get(measure.name, measure.name) for measure in sampler.measures]


def result_of(
    sampler: Sampler,
    dataset: Dataset,
    rows: list[dict[str, Any]],
    attack: dict[str, Any],
    measured: list[dict[str, Any]],
    options: SearchConfig,
) -> dict[str, Any]:
    """What results.json holds."""
    names = figures_of(sampler)
    classes = dataset.num_classes
    volumes = {
        split: hypervolume([[of[name] for name in names] for of in figures], classes)
        for split, figures in (("val", [row["val"] for row in rows]), ("test", rows))
    }
    return {
        "version": __version__,
        "dataset": dataset.title,
        "targets": [sampler.config.target],
        "attack": attack,
        "measures": [measure.name for measure in further_measures(sampler)],
        "search": asdict(options),
        "figures": names,
        "networks": rows,
        "summary": summarise(rows, [measure.name for measure in further_measures(sampler)]),
        "hypervolume": volumes,
        "measured": measured,
    }


def draw(file: Path, result: dict[str, Any]) -> None:
    """Draws what was found: accuracy against the next figure, on validation and on test images."""
    rows, key = result["networks"], result["figures"][1]
    points = [{**row["val"], "kind": "validation images"} for row in rows]
    points += [{**row, "kind": "test images"} for row in rows]
    title = heading(f"{len(rows)} networks found by a search of the latent space", result)
    images = {"sra": result["attack"]["images"]} if key == "sra" else {}
    write_pictures(file, scatter(points, key, title, images=images))
