"""Draws cases and tries them; see this package's docstring."""

import contextlib
import ctypes
import io
import itertools
import json
import math
import os
import shutil
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch

from hypergen.cli.main import main as hypergen
from hypergen.errors import InputError, RunError
from hypergen.storage.atomic import write_json
from scripts.bench.soak import endings, tasks
from scripts.bench.soak.case import Place, Soak, unbroken
from scripts.bench.soak.process import prepared
from scripts.bench.soak.tasks import TASKS
from scripts.common import RESULTS, run, surroundings

SHM = Path("/dev/shm")
PR_SET_CHILD_SUBREAPER = 36


Ready = tuple[Soak, list[str], dict[str, str]]
"""What tries cases, the endings that can be tried here, and why others cannot."""


@dataclass(frozen=True)
class SoakConfig:
    """How many cases, and which."""

    cases: int = 100
    """in all"""
    seed: int = 0
    """by which they are drawn"""
    jobs: int = 1
    """processes that try cases at once"""
    seconds: float | None = None
    """after which no case is begun any more; by default all are tried, however long it takes"""
    only: str | None = None
    """one case, such as 0:123: tried alone, and told in full"""
    out: Path = RESULTS / "soak.json"
    """the counts and faults as JSON"""


def main(config: SoakConfig) -> None:
    """Tries all cases, prints each fault as it is found, and writes the counts."""
    if config.cases < 1 or config.jobs < 1:
        raise InputError("--cases and --jobs must be at least 1")
    names = [f"{config.seed}:{number}" for number in range(config.cases)]
    if config.only is not None:
        names = [config.only]
    began = time.monotonic()
    with ready() as (soak, kinds, cannot):
        end = math.inf if config.seconds is None else began + config.seconds
        lines = tried_by_several(soak, names, kinds, config.jobs, end)
    result = {
        "settings": {"cases": len(lines), "seed": config.seed},
        **surroundings(),
        "seconds": round(time.monotonic() - began),
        "cannot": cannot,
        **counted(lines),
    }
    if config.only is None:
        write_json(config.out, result)
    print(f"{len(lines)} cases, {result['ended']} endings, {len(result['faults'])} faults")
    if result["faults"]:
        raise RunError(f"{len(result['faults'])} faults; one is repeated by --only CASE")


@contextlib.contextmanager
def ready(names: Sequence[str] = tuple(TASKS)) -> Iterator[Ready]:
    """What tries cases of these tasks."""
    cores = torch.get_num_threads()
    torch.set_num_threads(1)  # a process with threads cannot be forked
    cannot = endings.impossible()
    memory = SHM if SHM.is_dir() else None  # where a write that is awaited costs nothing
    try:
        with tempfile.TemporaryDirectory(dir=memory) as temporary, prepared():
            root = Path(temporary)
            root.chmod(0o711)
            corpus = warm_up(root, names)
            known = {name: unbroken(Place(root, corpus, name), name) for name in names}
            kinds = [kind for kind in endings.KINDS if kind not in cannot]
            yield Soak(root, corpus, known), kinds, cannot
    finally:
        torch.set_num_threads(cores)


def warm_up(root: Path, names: Sequence[str]) -> Path:
    """Does each task once in this process, and what makes the folders that they read; these.

    The process has then loaded what they load, as have those that are forked off it: most of the
    time of a small command else goes there.
    """
    corpus, scratch = root / "corpus", root / "scratch"
    corpus.mkdir()
    needed = {folder for name in names for folder in tasks.read_by(name)}
    with contextlib.chdir(corpus):
        for folder in needed:
            do_here(tasks.CORPUS[folder])
    shutil.copytree(corpus, scratch)
    with contextlib.chdir(scratch):
        for name in names:
            do_here(TASKS[name].line)
            shutil.rmtree("new", ignore_errors=True)
    shutil.rmtree(scratch)
    return corpus


def do_here(line: str) -> None:
    """Does a command in this process. RunError: it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = hypergen(line.split())
    if status:
        raise RunError(f"hypergen {line}: status {status}: {said.getvalue()}")


def drawn(soak: Soak, name: str, kinds: Sequence[str]) -> tuple[str, str]:
    """The command and the ending of a case."""
    rng = Random(f"{name} drawn")
    task = rng.choice([*soak.known])
    resumes = TASKS[task].resumed is not None
    return task, rng.choice([kind for kind in kinds if resumes or kind != "damage"])


def tried(soak: Soak, name: str, kinds: Sequence[str]) -> dict[str, Any]:
    """A case and what came of it."""
    task, kind = drawn(soak, name, kinds)
    ended, told, faults = soak.try_case(name, task, kind)
    for fault in faults:
        print(f"{fault.case}: {fault.task}: {fault.ending}: {fault.detail}", flush=True)
    about = {"case": name, "task": task, "kind": kind, "ended": ended, "ending": told}
    return about | {"faults": [asdict(fault) for fault in faults]}


def tried_by_several(
    soak: Soak, names: Sequence[str], kinds: Sequence[str], jobs: int, end: float = math.inf
) -> list[dict[str, Any]]:
    """All cases that begin before the time `end`, in processes forked off this one."""
    logs = [soak.root / f"job-{job}.jsonl" for job in range(jobs)]
    children = []
    for job, log in enumerate(logs):
        pid = os.fork()
        if not pid:
            try_all(soak, names[job::jobs], kinds, log, end)
        children.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in children]
    if any(statuses):
        raise RunError("a process that tried cases has died")
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def try_all(soak: Soak, names: Sequence[str], kinds: Sequence[str], log: Path, end: float) -> None:
    """Tries cases in a process forked for them, a line of the log each, and ends it."""
    status = 1
    try:
        # What a killed command leaves comes to this process, and its disks are no other's.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
        endings.own_mounts()
        with log.open("w", buffering=1) as lines:
            for name in itertools.takewhile(lambda _: time.monotonic() < end, names):
                lines.write(json.dumps(tried(soak, name, kinds)) + "\n")
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def counted(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many cases were ended, by ending and by command, and all faults."""
    ended = [line for line in lines if line["ended"]]
    return {
        "ended": len(ended),
        "by_ending": dict(sorted(Counter(line["kind"] for line in ended).items())),
        "by_command": dict(sorted(Counter(line["task"] for line in ended).items())),
        "faults": [fault for line in lines for fault in line["faults"]],
    }


if __name__ == "__main__":
    run(main, SoakConfig, __doc__)
