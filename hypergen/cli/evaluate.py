"""`hypergen evaluate`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypergen.cli.failures import told_failures
from hypergen.cli.machine import Machine
from hypergen.cli.options import Command
from hypergen.cli.resuming import found_meanwhile, sessions_before
from hypergen.experiments.evaluate import EvaluateConfig, evaluate_files
from hypergen.report.tables import evaluation_table
from hypergen.runtime.progress import ProgressBar
from hypergen.runtime.sessions import SESSIONS, Sessions
from hypergen.settings import Settings
from hypergen.storage.atomic import write_json


@dataclass(frozen=True)
class EvaluateOptions(Settings):
    """Measure accuracy and robustness of networks on test images."""

    paths: tuple[Path, ...] = ()
    """runs, folders of samples, weight files, or external state dicts"""
    json: Path | None = None
    """write the figures of every network here; what is found meanwhile stands beside it, in
    NAME.masks.jsonl, and the same call goes on from there"""
    machine: Machine = field(default_factory=Machine)


COMMAND = Command(EvaluateOptions, {"judging": EvaluateConfig})


def run(settings: dict[str, Any], own: EvaluateOptions) -> int:
    """Runs the command; status 1 if a network failed."""
    with found_meanwhile(own.json) as cache:
        device, data_dir = own.machine.chosen, own.machine.data_dir
        sessions = Sessions(device)
        with ProgressBar("evaluate") as bar:
            result = evaluate_files(own.paths, settings["judging"], device, data_dir, cache, bar)
    if own.json is not None:
        sessions.follow(sessions_before(own.json, result))
        write_json(own.json, result | {SESSIONS: sessions.rows()})
    if result["networks"]:
        print(evaluation_table(result))
    return told_failures(result)
