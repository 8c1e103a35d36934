"""Draws cases and tries them in processes of their own; see this package's docstring."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from hypergen.errors import InputError, RunError
from hypergen.storage.atomic import write_json
from scripts.bench.fuzz.worker import PARTS
from scripts.common import RESULTS, run

CHUNK = 200
"""Cases that one process tries."""


@dataclass(frozen=True)
class FuzzConfig:
    """How many cases, of which parts, and which."""

    cases: int = 5000
    """in all, evenly divided among the parts"""
    seed: int = 0
    """by which they are drawn"""
    part: str | None = None
    """api, files or commands; by default all"""
    jobs: int = 1
    """processes at once"""
    only: str | None = None
    """one case, such as files:0:123: tried alone, and told in full"""
    out: Path = RESULTS / "fuzz.json"
    """the faults as JSON"""


def main(config: FuzzConfig) -> None:
    """Tries all cases, prints each fault as it is found, and writes them."""
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary, "corpus")
        if config.only is not None:
            part, seed, number = config.only.split(":")
            chunk = part, int(seed), int(number), 1
            sys.exit(subprocess.run(worker(corpus, None, *chunk)).returncode)
        if config.part not in (None, *PARTS):
            raise InputError(f'unknown part "{config.part}"; known: {", ".join(PARTS)}')
        parts = list(PARTS) if config.part is None else [config.part]
        each = -(-config.cases // len(parts))
        chunks = [
            (part, config.seed, first, min(CHUNK, each - first))
            for first in range(0, each, CHUNK)
            for part in parts
        ]
        subprocess.run(
            worker(corpus, None, parts[0], 0, 0, 0), check=True
        )  # which fills the corpus
        logs = [Path(temporary, f"{index}.jsonl") for index in range(len(chunks))]
        with ThreadPoolExecutor(config.jobs) as threads:
            faults = sum(threads.map(functools.partial(tried, corpus), logs, chunks), [])
    tried_cases = sum(count for *_, count in chunks)
    kinds = Counter(f"{fault['kind']} {fault['where']}" for fault in faults)
    for kind, count in kinds.most_common():
        print(f"{count:>5}  {kind}")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(config.out, {"cases": tried_cases, "seed": config.seed, "faults": faults})
    print(f"{tried_cases} cases, {len(faults)} faults: {config.out}")
    if faults:
        raise RunError(f"{len(faults)} faults; one is repeated by --only CASE")


def worker(corpus: Path, log: Path | None, *chunk: object) -> list[str]:
    """The command of a process that tries some cases."""
    words = [corpus, log or "-", *chunk]
    return [sys.executable, "-m", "scripts.bench.fuzz.worker", *map(str, words)]


def tried(corpus: Path, log: Path, chunk: tuple[str, int, int, int]) -> list[dict]:
    """The faults of some cases; a process that dies is one, and the next goes on behind it."""
    part, seed, first, count = chunk
    faults: list[dict] = []
    end = first + count
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    while first < end:
        log.unlink(missing_ok=True)
        words = worker(corpus, log, part, seed, first, end - first)
        status = subprocess.run(words, env=environment).returncode
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        faults += [fault for line in lines for fault in line.get("faults", ())]
        first = 1 + max((line["number"] for line in lines), default=end)
        if status and first <= end:
            name = f"{part}:{seed}:{first - 1}"
            died = {"case": name, "kind": "death", "detail": f"status {status}", "where": ""}
            faults.append(died | {"repeat": lines[-1]["repeat"] if lines else "", "trace": ""})
            print(f"{name}: the process died with status {status}", flush=True)
    return faults


if __name__ == "__main__":
    run(main, FuzzConfig, __doc__)
