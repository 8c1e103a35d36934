"""Draws cases and tries them in processes of their own; see this package's docstring."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hypergen.errors import InputError, RunError
from hypergen.storage.atomic import write_json
from scripts.bench.fuzz.worker import PARTS
from scripts.common import RESULTS, run

CHUNK = 200
"""Cases that one process tries."""
Chunk = tuple[str, int, int, int]
"""Part, seed, number of the first case, and how many there are."""


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
    if config.cases < 1 or config.jobs < 1:
        raise InputError("--cases and --jobs must be at least 1")
    chunks = divided(config) if config.only is None else [chunk_of(config.only)]
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary, "corpus")
        if config.only is not None:
            sys.exit(subprocess.run(worker(corpus, None, chunks[0])).returncode)
        nothing = chunks[0][0], 0, 0, 0
        if subprocess.run(worker(corpus, None, nothing)).returncode:
            raise RunError("the files that cases work on could not be made")
        config.out.parent.mkdir(parents=True, exist_ok=True)
        faults = asyncio.run(try_all(config, chunks, corpus))
    for kind, count in Counter(f"{each['kind']} {each['where']}" for each in faults).most_common():
        print(f"{count:>5}  {kind}")
    print(f"{sum(count for *_, count in chunks)} cases, {len(faults)} faults: {config.out}")
    if faults:
        raise RunError(f"{len(faults)} faults; one is repeated by --only CASE")


def divided(config: FuzzConfig) -> list[Chunk]:
    """The cases in what one process tries."""
    parts = list(PARTS) if config.part is None else [known(config.part)]
    each = -(-config.cases // len(parts))
    return [
        (part, config.seed, first, min(CHUNK, each - first))
        for first in range(0, each, CHUNK)
        for part in parts
    ]


def chunk_of(case: str) -> Chunk:
    """The case of a name such as files:0:123, alone."""
    part, *numbers = case.split(":")
    try:
        seed, number = map(int, numbers)
    except ValueError as error:
        raise InputError(f"--only {case}: expected PART:SEED:NUMBER, as in files:0:123") from error
    return known(part), seed, number, 1


def known(part: str) -> str:
    """The part. `InputError`: there is none of that name."""
    if part not in PARTS:
        raise InputError(f'unknown part "{part}"; known: {", ".join(PARTS)}')
    return part


def worker(corpus: Path, log: Path | None, chunk: Chunk) -> list[str]:
    """The command of a process that tries some cases."""
    words = [corpus, log or "-", *chunk]
    return [sys.executable, "-m", "scripts.bench.fuzz.worker", *map(str, words)]


async def try_all(config: FuzzConfig, chunks: list[Chunk], corpus: Path) -> list[dict]:
    """The faults of all cases, which are also written as they come."""
    limit = asyncio.Semaphore(config.jobs)
    faults: list[dict] = []
    cases = 0
    tasks = [asyncio.create_task(tried(corpus, chunk, limit)) for chunk in chunks]
    for task, (*_, count) in zip(tasks, chunks, strict=True):
        faults += await task
        cases += count
        write_json(config.out, {"cases": cases, "seed": config.seed, "faults": faults})
    return faults


async def tried(corpus: Path, chunk: Chunk, limit: asyncio.Semaphore) -> list[dict]:
    """The faults of some cases; a process that dies is one, and the next goes on behind it."""
    part, seed, first, count = chunk
    log = corpus.with_name(f"{part}-{first}.jsonl")
    end = first + count
    faults: list[dict] = []
    async with limit:
        while first < end:
            log.write_text("")
            status = await status_of(worker(corpus, log, (part, seed, first, end - first)))
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            faults += [fault for line in lines for fault in line.get("faults", ())]
            if not status:
                break
            last = lines[-1] if lines else {"number": end - 1}  # it did not even begin
            name = f"{part}:{seed}:{last['number']}"
            died = {"case": name, "kind": "death", "detail": f"status {status}", "where": ""}
            faults.append(died | {"repeat": last.get("repeat", ""), "trace": ""})
            print(f"{name}: the process died with status {status}", flush=True)
            first = last["number"] + 1
    return faults


async def status_of(words: list[str]) -> int:
    """Runs a command on one core and returns its status; it is killed where this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        *words, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            process.kill()


if __name__ == "__main__":
    run(main, FuzzConfig, __doc__)
