"""Whether commands stay within the memory that they are allowed: target by target.

Each command runs in a process of its own, with `--memory`, on random images; its highest resident
memory is what the system noted. A command that says in one line that so much is not enough kept
its budget as well. Figures are kept one by one: a killed run goes on.

    python -m scripts.bench.memory
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hypergen.budget import parse_size
from hypergen.catalog import TARGETS
from hypergen.storage.folders import CONFIG
from scripts.common import RESULTS, cached_json, ensure_same_settings, publish, run, settings_of

TOLERANCE = 1.1
"""Times what was asked for that may be taken."""
COMMANDS = {
    "baseline": "--method fbf --epochs 1 {data} --out {work}/{target}/net",
    "train": "--steps 2 --no-baseline --samples 2 --images 8 --sra-samples 0 --measure-every 1"
    " {data} --out {work}/{target}/run",
    "evaluate": "{work}/{target}/net --steps 2 --restarts 1 --images {images}",
    "ensemble": "{members} --ensemble --steps 1 --restarts 1 --images {images}",
    "sample": "{work}/{target}/run --count 4 --keep 1 --images 8 --out {work}/{target}/best",
}
"""What each command is asked for; what it works on was made by one before it."""
CHILD = """
import resource, sys
from hypergen.cli.main import main
status = main()
print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
UNITS = 1024 if sys.platform == "linux" else 1
"""Bytes of what the system counts in."""


@dataclass(frozen=True)
class MemoryConfig:
    """What is tried."""

    memory: tuple[str, ...] = ("8GiB",)
    """budgets"""
    targets: tuple[str, ...] = ()
    """architectures; by default all that there are"""
    commands: tuple[str, ...] = tuple(COMMANDS)
    """of those known here"""
    images: int = 256
    """of each split, colour, 32 x 32"""
    members: int = 10
    """networks that vote"""
    threads: int = 2
    """cores"""
    work: Path = Path("runs/bench-memory")
    """folder of what is found"""
    out: Path = RESULTS / "bench_memory.json"
    """where the figures go"""


def write_images(path: Path, count: int) -> None:
    """Random images of 10 classes, so many to train and to test on."""
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "test"):
        arrays[f"x_{part}"] = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        arrays[f"y_{part}"] = np.arange(count) % 10
    np.savez(path, layout="NCHW", **arrays)


def command_of(name: str, target: str, config: MemoryConfig) -> list[str]:
    """The words of a command."""
    data = f"--target {target} --dataset npz:{config.work}/images.npz --epsilon 0.03"
    network = f"{config.work}/{target}/net/network.safetensors"
    words = COMMANDS[name].format(
        data=data,
        work=config.work,
        target=target,
        images=config.images,
        members=" ".join([network] * config.members),
    )
    return ["evaluate" if name == "ensemble" else name, *words.split(), "--device", "cpu"]


def measured(words: Sequence[str], memory: str, threads: int) -> dict[str, Any]:
    """The command's status, the bytes that it took at most, and what it said if it failed."""
    command = [sys.executable, "-c", CHILD, *words, "--memory", memory]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        return {"status": done.returncode, "bytes": None, "said": done.stderr[-300:]}
    status, taken = map(int, done.stdout.splitlines()[-1].split())
    said = done.stderr.splitlines()[-1] if status else ""
    return {"status": status, "bytes": taken * UNITS, "said": said}


def main(config: MemoryConfig) -> None:
    """Runs all commands, prints and writes."""
    ensure_same_settings(config.work, config)
    write_images(config.work / "images.npz", config.images)
    found: dict[str, Any] = {}
    print(f"{'target':<24}{'memory':>8}{'command':>12}{'GiB':>8}{'share':>8}")
    for memory in config.memory:
        for target in config.targets or TARGETS.names():
            for name in config.commands:
                if name == "sample" and not (config.work / target / "run" / CONFIG).exists():
                    print(f"{target:<24}{memory:>8}{name:>12}  there is no run of it", flush=True)
                    continue
                words = command_of(name, target, config)
                path = config.work / f"{target}-{memory}-{name}.json"
                row = cached_json(path, lambda w=words, m=memory: measured(w, m, config.threads))
                share = (row["bytes"] or 0) / parse_size(memory)
                found[f"{target}, {memory}, {name}"] = row | {"share": round(share, 3)}
                gib = (row["bytes"] or 0) / 2**30
                line = f"{target:<24}{memory:>8}{name:>12}{gib:>8.2f}{share:>8.2f}  {row['said']}"
                print(line, flush=True)
    over = [name for name, row in found.items() if row["share"] > TOLERANCE or not row["bytes"]]
    print(f"beyond {TOLERANCE:g} times the memory: {', '.join(over) or 'none'}")
    publish(config.out, settings_of(config), found)


if __name__ == "__main__":
    run(main, MemoryConfig, __doc__)
