"""What sessions say of a call, and that they add up and tell nobody's name."""

import json
import platform
import time

import pytest
import torch

from hypergen.errors import InputError
from hypergen.runtime.sessions import SESSIONS, TIMES, Sessions, StoredSessions, cores, typed

CPU = torch.device("cpu")


def test_a_session_tells_command_time_and_machine():
    before = time.monotonic()
    with typed(["hypergen", "train", "--dataset", "folder:my pets"]):
        sessions = Sessions(CPU)
        time.sleep(0.02)
        (row,) = sessions.rows()
    whole = time.monotonic() - before
    assert row.pop("command") == "hypergen train --dataset 'folder:my pets'"
    assert 0.01 <= row.pop("seconds") <= round(whole, 2) + 0.01
    assert "CPU" in row.pop("device") and row.pop("cores") == cores() >= 1
    assert row == {"python": platform.python_version(), "torch": torch.__version__}
    assert Sessions(CPU).rows()[0]["command"] is None and SESSIONS in TIMES


def test_what_is_continued_adds_up_and_what_is_no_session_counts_as_nothing():
    first = json.loads(json.dumps(Sessions(CPU).rows()))
    second = Sessions(CPU, first).rows()
    assert second[:1] == first and len(second) == 2
    later = Sessions(CPU)
    later.follow(second)
    assert later.rows()[:2] == second
    for damaged in (None, 7, {}, ["now"], [{"seconds": "long"}], [*first, {}]):
        assert len(Sessions(CPU, damaged).rows()) == 1


def test_a_command_tells_no_folders_and_no_passwords():
    words = [
        "train",
        "--dataset",
        "folder:/secret/my pets",
        "--storage=postgresql://me:secret@host",
    ]
    with typed(["hypergen", *words]):
        (row,) = Sessions(CPU).rows()
    kept = "hypergen train --dataset 'folder:my pets' --storage=postgresql://..."
    assert row["command"] == kept


def test_a_file_keeps_what_a_kill_would_lose(tmp_path):
    StoredSessions(CPU, tmp_path).save()
    (first,) = json.loads((tmp_path / "sessions.json").read_text())[SESSIONS]
    assert StoredSessions(CPU, tmp_path).rows()[0] == first
    (tmp_path / "sessions.json").write_text("{")
    with pytest.raises(InputError, match="sessions.json is damaged"):
        StoredSessions(CPU, tmp_path)
