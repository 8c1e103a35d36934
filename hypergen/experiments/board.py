"""A board of small networks: how good each is, what it took to train, and how to make it again."""

import hashlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import torch

from hypergen import __version__
from hypergen.errors import InputError
from hypergen.experiments.command_line import making_line
from hypergen.experiments.evaluate import Judged, evaluate, open_for
from hypergen.experiments.evaluate_config import EvaluateConfig, ImagesConfig
from hypergen.experiments.made_by import COST, cost_of, made_by
from hypergen.report.board import board_page
from hypergen.report.intervals import interval
from hypergen.runtime.progress import SILENT, Progress
from hypergen.settings import SIZE, checked
from hypergen.storage.atomic import read_json, write_json, write_text
from hypergen.storage.folders import require_folder
from hypergen.storage.lock import locked
from hypergen.storage.network_files import find
from hypergen.storage.weights import is_own, read_metadata

BOARD, PAGE = "board.json", "board.md"
MAX_WEIGHTS = 300_000
MAX_TEXT = 500
KEY = "dataset", "norm", "epsilon", "name"
"""What tells one row from another."""


@dataclass(frozen=True)
class BoardConfig(ImagesConfig):
    """What a row says of its network, and on which images this is judged.

    By default it says of recipe, command and cost what the file does, and else that it is unknown.
    """

    name: str | None = None
    """what the row is called; by default as the file"""
    recipe: str | None = None
    """how the network was trained, in a few words"""
    command: str | None = None
    """what makes the weight file"""
    seconds: Annotated[float | None, SIZE] = None
    """what the training took: on a CPU of one core, on a GPU by the clock"""
    gradient_evaluations: Annotated[int | None, SIZE] = None
    """images' gradients that the training took, its attacks included"""
    trained_on: str | None = None
    """the CPU or GPU that took these seconds"""

    def require(self) -> None:
        super().require()
        for name in ("name", "recipe", "command", "trained_on"):
            text = getattr(self, name)
            if text is not None and not (text.isprintable() and 0 < len(text) <= MAX_TEXT):
                raise InputError(f"`{name}` must be one line of 1 to {MAX_TEXT} letters")

    @property
    def evaluation(self) -> EvaluateConfig:
        """The evaluation that gives the figures: standard robust accuracy, and nothing weaker."""
        shared = {field.name: getattr(self, field.name) for field in fields(ImagesConfig)}
        return EvaluateConfig(attack="standard", restarts=1, **shared)


def add_to_board(
    board: Path,
    file: Path,
    config: BoardConfig,
    device: torch.device,
    data_dir: Path | None = None,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Judges one weight file, and writes its row into board.json and board.md; returns the row.

    A row of the same network, threat and name is replaced.

    Raises:
        InputError: no single weight file, more than 300,000 weights, a name that another network
            has, a damaged board, or as from `evaluate_files`.
    """
    files = find([file])
    if len(files) != 1:
        raise InputError(f"{file} holds {len(files)} networks; a row is of one: name a weight file")
    require_folder(board)
    judged = open_for(files, config.evaluation, device, data_dir)
    row = _told(files[0], config, judged)
    with locked(board):
        rows = read_board(board)
        others = [other for other in rows if _key(other) != _key(row)]
        for other in rows:
            if _key(other) == _key(row) and other["sha256"] not in (None, row["sha256"]):
                raise InputError(f'{board} has another network "{row["name"]}"; choose a `name`')
        row |= _judged(judged, config, device, progress)
        write_board(board, [*others, row])
    return row


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in KEY)


def _told(
    file: Path,
    config: BoardConfig,
    judged: Judged,
) -> dict[str, Any]:
    """What is known of a network before it is judged. `InputError`: too many weights."""
    network = judged.networks[0]
    weights = sum(each.numel() for each in network.module.parameters())
    if weights > MAX_WEIGHTS:
        raise InputError(
            f"{file} has {weights:,} weights; the board is of small networks: {MAX_WEIGHTS:,} at "
            "most"
        )
    metadata = read_metadata(file) if is_own(file) else {}
    making = made_by(file) if metadata else None
    cost = cost_of(file) if metadata else dict.fromkeys(COST)
    seconds, device = config.seconds, config.trained_on
    if seconds is None:
        seconds, device = cost["seconds_trained"], cost["trained_on"]
    gradients = config.gradient_evaluations
    if gradients is None:
        gradients = cost["gradient_evaluations"]
    return {
        "name": config.name or file.stem,
        "dataset": judged.dataset.title,
        "norm": judged.threat.norm,
        "epsilon": judged.threat.epsilon,
        "target": network.metadata["target"],
        "activation": network.metadata["activation"],
        "weights": weights,
        "seconds": seconds,
        "trained_on": device,
        "gradient_evaluations": gradients,
        "recipe": config.recipe or (making and making.recipe),
        "command": config.command or (making and making_line(making)),
        "file": making and making.file,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }


def _judged(
    judged: Judged, config: BoardConfig, device: torch.device, progress: Progress
) -> dict[str, Any]:
    """The figures; `InputError` for a network that gives none."""
    evaluator = config.evaluation.evaluator(judged.threat)
    found = evaluate(judged.networks, judged.dataset, evaluator, device, progress=progress)
    for path, reason in found["failed"].items():
        raise InputError(f"{path}: {reason}")
    (row,) = found["networks"]
    images = found["attack"]["images"]
    return {
        "accuracy": row["accuracy"],
        "test_images": len(judged.dataset.test),
        "sra": row["sra"],
        "interval": interval(row["sra"], images),
        "images": images,
        "after": row["after"],
        "source": f"hypergen {__version__}",
    }


ROW: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("name", "dataset", "norm", "target", "activation", "source"), (str,)),
    **dict.fromkeys(("epsilon", "accuracy", "sra"), (float,)),
    **dict.fromkeys(("weights", "images", "test_images"), (int,)),
    **dict.fromkeys(("recipe", "command", "file", "sha256", "trained_on"), (str | None,)),
    **dict.fromkeys(("seconds",), (float | None,)),
    **dict.fromkeys(("gradient_evaluations",), (int | None,)),
    "interval": (tuple[float, ...],),
    "after": (dict,),
}
"""Field of a row -> its type."""


def read_board(board: Path) -> list[dict[str, Any]]:
    """The rows of a board's folder, none where there is no board.json; `InputError`: damaged."""
    path = board / BOARD
    rows = read_json(path).get("rows") if path.exists() else []
    if not isinstance(rows, list):
        raise InputError(f"{path} is no board: it has no `rows`")
    for row in rows:
        if not isinstance(row, dict) or row.keys() != ROW.keys():
            raise InputError(f"{path} is no board: a row has other fields than {', '.join(ROW)}")
        try:
            for name, (kind,) in ROW.items():
                checked(name, row[name], kind)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    return rows


def write_board(board: Path, rows: list[dict[str, Any]]) -> None:
    """Writes board.json and the page made of it, best rows first."""
    rows = sorted(rows, key=lambda row: (*_key(row)[:3], -row["sra"], row["name"]))
    write_json(board / BOARD, {"rows": rows})
    write_text(board / PAGE, board_page(rows))
