"""The commands that are ended, and what they need."""

from dataclasses import dataclass

SMALL = (
    "--target mlp --image-size 8 --epsilon 0.1 --steps 4 --population 2 --batch-size 8 "
    "--replay-size 4 --latent-size 2 --value-steps 1 --samples 2 --images 4 --sra-samples 1 "
    "--sra-images 4"
)
DIRECT = "baseline --target mlp --image-size 8 --epsilon 0.1 --epochs 3 --out new"
JUDGE = "--images 4 --steps 1 --restarts 1"
NETWORK = "one/network.safetensors"


@dataclass(frozen=True)
class Task:
    """A command line, run where the folders "run" and "one" are; it writes to "new" or to files.

    resumed: the line that goes on where the first has begun; by default the first again. waits:
    most of its time it waits for other processes.
    """

    line: str
    resumed: str | None = None
    waits: bool = False


TASKS = {
    "train": Task(
        f"train {SMALL} --no-baseline --out new", "train --resume --no-baseline --out new"
    ),
    "train beside baselines": Task(f"train {SMALL} --out new", "train --resume --out new"),
    "baseline": Task(DIRECT, f"{DIRECT} --resume"),
    "sweep": Task(f"sweep {SMALL} --trials 2 --out new", waits=True),
    "sample": Task("sample run --count 3 --keep 1 --images 4 --out new"),
    "search": Task(
        "search run --candidates 3 --budget 2 --keep 1 --images 4 --method random --out new"
    ),
    "evaluate": Task(f"evaluate run {NETWORK} {JUDGE} --json o.json"),
    "compare": Task(f"compare run one {JUDGE} --json o.json --picture o.png"),
    "transfer": Task(f"transfer run {NETWORK} {JUDGE} --json o.json"),
    "analyze": Task("analyze run --images 4 --steps 2 --what activations --out new"),
    "report": Task("report run"),
    "export": Task("export run --format safetensors --out new"),
    "card": Task(f"card {NETWORK} --out new"),
    "board": Task(f"board add {NETWORK} --images 4 --out new"),
}
"""All commands but `list`, which writes nothing, and `explore`, which waits for somebody."""


CORPUS = {"run": TASKS["train"].line.replace("new", "run"), "one": DIRECT.replace("new", "one")}
"""What makes the folders that they read."""


def read_by(name: str) -> list[str]:
    """The folders that a task reads."""
    return [folder for folder in CORPUS if f" {folder}" in TASKS[name].line]
