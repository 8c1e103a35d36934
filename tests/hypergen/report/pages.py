"""Pages that tests look at, of results that are made up, and a parser that reads them back."""

import io
import json
import random
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import numpy
from PIL import Image

from hypergen.report.page.analyses import Found
from hypergen.report.page.attacks import AttackedSample
from hypergen.report.page.run import RunFound

ATTACKS = "apgd-ce", "apgd-t", "fab-t", "square"
EVIL = "<script>alert('&')</script>"
"""A name that would be code if it were not escaped."""


class Cells(HTMLParser):
    """What a page holds: its tables row by row, its scripts, and all that it would load."""

    def __init__(self, text: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.scripts: dict[str, str] = {}
        self.tags: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self._script: str | None = None
        self._cell = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        own = dict(attrs)
        self.tags.append(tag)
        self.ids += [own["id"]] if "id" in own else []
        self.loaded += [own[name] for name in ("src", "data", "srcset", "poster") if name in own]
        if tag == "link":
            self.loaded.append(own["href"])
        if tag == "a":
            self.links.append(own["href"])
        if tag == "script":
            self._script = own.get("id", "code")
            self.scripts[self._script] = ""
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self._cell = True

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] += data
        elif self._cell:
            self.tables[-1][-1][-1] += data

    def handle_endtag(self, tag):
        if tag == "script":
            self._script = None
        if tag in ("th", "td"):
            self._cell = False

    def json(self, name: str) -> Any:
        return json.loads(self.scripts[name])


def with_details(result: Mapping[str, Any], ranged: bool = True) -> dict[str, Any]:
    """The results of a run with all that a run's networks have beside their figures."""
    rng = random.Random(0)
    networks = []
    for row in result["networks"]:
        row = dict(row) | {"robustness": row["pgd"]}
        row["interval"] = [row["pgd"] - 0.02, row["pgd"] + 0.03]
        if "sra" in row:
            row["sra_interval"] = [row["sra"] - 0.1, row["sra"] + 0.09]
            row["after"] = {name: row["sra"] + 0.01 * (3 - i) for i, name in enumerate(ATTACKS)}
        if row["kind"] == "sample":
            row["file"] = f"samples/sample-{len(networks):04d}.safetensors"
            row["z"] = [rng.gauss(0, 1) for _ in range(16)]
            row["beta"] = rng.random() if ranged else 0.5
            row["estimated"] = {"accuracy": rng.random(), "robustness": rng.random()}
        networks.append(row)
    agreement = {
        "mean_error": 0.0312,
        "overestimate": -0.0271,
        "r2": -1.25,
        "kendall_tau": 0.3,
        "spread": 0.011,
        "measuring_error": 0.004,
        "ranking_error": 0.002,
        "training_tau": None,
    }
    return {
        **result,
        "version": "0.2.0",
        "seed": 3,
        "networks": networks,
        "error_overlap": {kind: 0.456 for kind in result["disagreement"]},
        "value_network": {"accuracy": agreement, "robustness": agreement | {"mean_error": 0.2}},
        "front_growth": {"steps": [10, 20, 30], "values": [0.1, 0.25, 0.4]},
        "sessions": [
            session("hypergen train --out 'my run'", 1234.5),
            session("hypergen train --resume --out 'my run'", 0.75),
            session(None, 2.0),
        ],
    }


def session(command: str | None, seconds: float) -> dict[str, Any]:
    """What results.json says of one call."""
    machine = {"device": EVIL, "cores": 2, "python": "3.11.7", "torch": "2.6.0"}
    return {"command": command, "seconds": seconds} | machine


def picture(width: int = 40, colour: str = "white") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 20), colour).save(file, "png")
    return file.getvalue()


def found_in_run(result: Mapping[str, Any], name: str = "run") -> RunFound:
    """A run of which everything is known."""
    rng = numpy.random.default_rng(0)
    clean = rng.random((3, 1, 8, 8))
    changed = (clean + rng.uniform(-0.1, 0.1, clean.shape)).clip(0, 1)
    before, after = [(1, 0.9), (0, 0.8), (2, 1.0)], [(0, 0.6), (0, 0.7), (2, 0.9)]
    attack = result["attack"]
    attacked = AttackedSample(
        "sample-0000", attack, clean, changed, [1, 0, 2], before, after, ["cat", EVIL, "dog"]
    )
    metrics: list[dict[str, Any]] = []
    for step in range(500):
        row = {"step": step, "loss": 2 / (step + 1), "value_loss": 0.3}
        if step % 2 == 0:
            row |= {f"measured/{name}": step / 600 for name in result["measures"]}
            row |= {f"estimated/{name}": step / 700 for name in result["measures"]}
        if step % 200 == 100:
            for measure in result["measures"]:
                checks = {"": 0.5, "/gap": 0.02, "/overestimate": -0.01}
                row |= {f"check/{measure}{word}": value for word, value in checks.items()}
        metrics.append(row)
    point = {"mean": 0.9, "std": 0.1, "interval": [0.85, 0.95]}
    curve = {
        "dataset": result["dataset"],
        "attack": attack,
        "hypervolume": 0.5,
        "curve": [
            {"beta": beta, "count": 2, "accuracy": point, "pgd": point, "sra": point}
            for beta in (0.0, 0.5, 1.0)
        ],
    }
    analyses = {
        "dataset": result["dataset"],
        "attack": attack,
        "groups": [{"name": "sample", "networks": 2}, {"name": "fbf", "networks": 1}],
        "analyses": {
            "regions": {
                "title": "linear regions",
                "figures": {"density": "regions per unit of length"},
                "rows": [{"group": "sample", "density": 1.5}, {"group": "fbf", "density": 2.5}],
                "skipped": {"other": EVIL},
                "failed": {},
            }
        },
    }
    config = {"config": {"target": "mlp", "activation": "relu", "data": {"name": EVIL}}}
    return RunFound(
        name,
        result,
        config,
        metrics,
        "hypergen train --dataset digits",
        {"gradients": "12"},
        [attacked],
        "",
        {"samples-seed1": curve},
        Found(analyses, {"regions": picture(1500)}),
        [
            {"file": "run/samples/a.safetensors", "verdict": "passed", "reasons": []},
            {"file": "run/b.safetensors", "verdict": "masked", "reasons": [EVIL, "flat"]},
        ],
    )
