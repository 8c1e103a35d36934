"""The Optuna study of a sweep: opened by several processes at once, and after a kill."""

import os
import re
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import optuna
from optuna.exceptions import DuplicatedStudyError, StorageInternalError
from optuna.storages import BaseStorage, GrpcStorageProxy, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hypergen.errors import InputError
from hypergen.storage.json_lines import json_lines

JOURNAL = "optuna.journal"
"""The file in a sweep's folder that Optuna keeps its study in, unless a URL is given."""
CREATE_STUDY, CREATE_TRIAL, SET_STATE = 0, 4, 6
"""Codes of lines in that file: a study begins, a trial begins, a trial ends (or waits)."""
GRPC = "grpc://"
"""How URLs of Optuna's gRPC proxy begin."""
PATIENCE = 20.0
"""Seconds that a process waits for another one, which has just begun to use the same storage."""
BUSY_SECONDS = 60
"""How long SQLite waits while others write; by default a sweep of many workers may fail."""
FIRST_USED_TOGETHER = ("already exists", "unique constraint", "duplicate", "is locked")
"""What SQLite, PostgreSQL and MySQL tell the later of two that make the same tables."""
JUDGED_ON_TEST = (
    "is of an earlier version, whose trials were chosen on test images; choose another `out`"
)


def open_storage(url: str) -> BaseStorage:
    """The storage that an Optuna URL names; several processes may be the first to use it.

    `InputError`: there is none.
    """
    if url.startswith(GRPC):
        return _open_proxy(url)
    options = {"connect_args": {"timeout": BUSY_SECONDS}} if url.startswith("sqlite") else {}
    end = None
    while True:
        try:
            return RDBStorage(url, engine_kwargs=options)
        except Exception as error:  # each back end has errors of its own
            said = str(error)
            together = any(words in said.lower() for words in FIRST_USED_TOGETHER)
            end = end or time.monotonic() + PATIENCE
            if not together or time.monotonic() > end:
                first = (said.splitlines() or [type(error).__name__])[0]
                raise InputError(f"`storage` {_public(url)}: {first}") from error
        time.sleep(0.1)  # the other makes what is missing


def _public(url: str) -> str:
    """The URL without the password in it, for what is told may be kept."""
    return re.sub(r"(//[^/@]*?):[^/]*@", r"\1:***@", url)


def _open_proxy(url: str) -> BaseStorage:
    """The storage behind Optuna's gRPC proxy at grpc://HOST:PORT. `InputError`: there is none."""
    try:
        import grpc  # noqa: F401  (here, for few need it)

        host, port = urlsplit(url).hostname, urlsplit(url).port
    except ImportError:
        raise InputError(f"`storage` {_public(url)} needs grpcio: pip install grpcio") from None
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise InputError(f"`storage` must be {GRPC}HOST:PORT for a proxy, got {_public(url)}")
    with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
        storage = GrpcStorageProxy(host=host, port=port)
    try:
        storage.wait_server_ready(PATIENCE)
    except ConnectionError:
        raise InputError(
            f"`storage` {_public(url)}: no gRPC proxy of Optuna answers there"
        ) from None
    return storage


def storage_errors() -> tuple[type[Exception], ...]:
    """What a storage raises that fails while it is used."""
    grpc = sys.modules.get("grpc")  # there if a proxy is used
    return (StorageInternalError,) if grpc is None else (StorageInternalError, grpc.RpcError)


def reason(error: Exception) -> str:
    """Why a storage failed, in one line."""
    details = getattr(error, "details", None)  # of gRPC, whose text begins with nothing of use
    said = details() if callable(details) else error.__cause__ or error
    return (str(said).splitlines() or [type(error).__name__])[0]


def open_journal(folder: Path) -> BaseStorage:
    """The journal file in a sweep's folder, which nobody else works in meanwhile.

    A last line that a kill cut short is dropped, and told by a warning.
    `InputError`: damage anywhere else, or a line that was moved; the file is left as it is.
    """
    # As a whole path: Optuna's own lock is a link to it, which must not depend on where one is.
    path = folder.resolve() / JOURNAL
    Path(f"{path}.lock").unlink(missing_ok=True)  # of a killed sweep; Optuna would wait for it
    raw = path.read_bytes() if path.exists() else b""
    lines = [*json_lines(raw)]
    kept = sum(len(line) for line, _ in lines)
    if b"\n" in raw[kept:-1]:
        raise _damaged(path, f"line {len(lines) + 1} is no JSON")
    try:
        moved = _moved_line([record for _, record in lines])
        storage = JournalStorage(JournalFileBackend(str(path)))
    except OSError:
        raise
    except Exception as error:  # JSON, but not as Optuna writes it
        raise _damaged(path, "not as Optuna writes it") from error
    if moved is not None:
        raise _damaged(path, f"line {moved} is not in its place")
    if kept < len(raw):
        _truncate(path, kept)
    return storage


def _moved_line(records: Sequence[Mapping[str, Any]]) -> int | None:
    """The first line, counted from 1, about what has not begun by then or has ended; None if none.

    Optuna would pass over it, and lose what it tells.
    """
    studies, trials, ended = 0, 0, set()
    for number, record in enumerate(records, 1):
        study, trial = record.get("study_id", -1), record.get("trial_id", -1)
        if study >= studies or trial >= trials or trial in ended:
            return number
        studies += record["op_code"] == CREATE_STUDY
        trials += record["op_code"] == CREATE_TRIAL
        if record["op_code"] == SET_STATE and TrialState(record["state"]).is_finished():
            ended.add(trial)
    return None


def _truncate(path: Path, kept: int) -> None:
    with path.open("r+b") as file:
        file.truncate(kept)
        os.fsync(file.fileno())
    warnings.warn(
        f"{path}: the last line was cut short and is dropped; what it told is done again",
        stacklevel=2,
    )


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path} is damaged ({reason}); restore it, or remove it to begin anew")


def of_journal(folder: Path, settings: dict[str, Any], measures: Sequence[str]) -> optuna.Study:
    """The study of the sweep in a folder that nobody else works in. `InputError`: see below."""
    storage = open_journal(folder)
    names = optuna.get_all_study_names(storage)
    if names:  # which is what the folder was once called; to make it again would write a line
        study = optuna.load_study(study_name=names[0], storage=storage)
    else:
        study, _ = _opened(folder.name, storage, measures)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        if list(map(type, trial.values)) != [float] * len(study.directions):
            values = f"the values of trial {trial.number} are {trial.values!r:.60}"
            raise _damaged(folder / JOURNAL, values)
    _claim(study, settings, measures, patience=0.0)
    return study


def of_storage(
    storage: BaseStorage, name: str, settings: dict[str, Any], measures: Sequence[str]
) -> optuna.Study:
    """The study of that name, in a storage that several sweeps may share.

    measures: the names of what it is told of each trial.
    `InputError`: it is of a sweep with other settings, or of none.
    """
    study, is_new = _opened(name, storage, measures)
    # Whoever makes a study says what it is of. One who died before is waited for in vain.
    _claim(study, settings, measures, patience=0.0 if is_new else PATIENCE)
    return study


def judged_on_test(settings: Any) -> bool:
    """Whether the settings of a sweep are of a version that chose trials on test images."""
    report = settings.get("report") if isinstance(settings, dict) else None
    return isinstance(report, dict) and report.get("split", "test") == "test"


def _directions(measures: Sequence[str]) -> list[StudyDirection]:
    return [StudyDirection.MAXIMIZE] * len(measures)


def _opened(name: str, storage: BaseStorage, measures: Sequence[str]) -> tuple[optuna.Study, bool]:
    """The study of that name, and whether it was made just now."""
    directions = _directions(measures)
    try:
        study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    except DuplicatedStudyError:
        return optuna.load_study(study_name=name, storage=storage), False
    return study, True


def _claim(
    study: optuna.Study, settings: dict[str, Any], measures: Sequence[str], patience: float
) -> None:
    """Notes in the study which sweep it is of; so may another, within `patience` seconds."""
    end = time.monotonic() + patience
    while True:
        used = bool(study.get_trials(deepcopy=False))  # first: a trial comes after the settings
        claimed = study.user_attrs.get("settings")
        if study.directions != _directions(measures) or (claimed is None and used):
            raise InputError(_other(study))
        if claimed is not None or time.monotonic() >= end:
            break
        time.sleep(0.05)
    if claimed is None:
        study.set_user_attr("settings", settings)
        claimed = study.user_attrs.get("settings")  # another may have been quicker
    if judged_on_test(claimed):
        raise InputError(f"the storage's study {study.study_name!r} {JUDGED_ON_TEST}")
    if claimed != settings:
        raise InputError(_other(study))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([*measures])


def _other(study: optuna.Study) -> str:
    return (
        f"the storage holds a study {study.study_name!r} with other settings; choose an `out` of "
        "another name"
    )
