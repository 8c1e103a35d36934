"""Studies: journals that a kill cut short, and storages that several sweeps use first at once."""

import json
import os
import socket
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import optuna
import pytest

from hypergen.errors import InputError
from hypergen.experiments import study
from hypergen.experiments.study import JOURNAL, of_journal, of_storage, open_storage

MEASURES = ["accuracy", "robustness"]
SETTINGS = {"config": {}, "report": {"split": "val"}}


@pytest.fixture
def journal(tmp_path) -> Path:
    """With a finished trial and one that is not."""
    made = of_journal(tmp_path, SETTINGS, MEASURES)
    for values in ([0.75, 0.25], None):
        trial = made.ask()
        trial.set_user_attr("owner", ["host", str(tmp_path)])
        trial.suggest_float("beta", 0, 1)
        if values:
            made.tell(trial, values)
    return tmp_path / JOURNAL


def reopened(path: Path) -> tuple[optuna.Study, list[str]]:
    """The study, and what was told meanwhile."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        made = of_journal(path.parent, SETTINGS, MEASURES)
    return made, [str(each.message) for each in told]


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_that_was_cut_short_is_dropped(journal, cut):
    raw = journal.read_bytes()
    os.truncate(journal, len(raw) - cut)
    made, told = reopened(journal)
    assert len(told) == 1 and str(journal) in told[0] and "\n" not in told[0]
    first, second = made.get_trials()
    assert first.values == [0.75, 0.25] and second.params == {}  # which is asked for again
    trial = optuna.Trial(made, second._trial_id)
    trial.suggest_float("beta", 0, 1)
    made.tell(trial, [0.5, 0.5])
    again, told = reopened(journal)
    assert not told and [trial.values for trial in again.get_trials()][1] == [0.5, 0.5]


def test_cut_anywhere_a_journal_opens_and_keeps_its_whole_lines(journal):
    raw = journal.read_bytes()
    for length in range(0, len(raw), 37):
        journal.write_bytes(raw[:length])
        made, told = reopened(journal)
        assert bool(told) == (not raw[:length].endswith(b"\n") and length > 0)
        kept = raw[: raw[:length].rfind(b"\n") + 1]
        assert journal.read_bytes().startswith(kept)
        assert made.user_attrs["settings"] == SETTINGS
        assert len(made.get_trials()) == sum(b'"op_code":4' in line for line in kept.splitlines())


@pytest.mark.parametrize(
    "damage", [b"\0" * 50 + b"\n", b"half a li\n", b"5\n", b"{}\n", b'{"op_code": 99}\n']
)
@pytest.mark.parametrize("place", [0, 3])
def test_damage_elsewhere_is_told_and_nothing_is_lost(journal, damage, place):
    lines = journal.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:place], damage, *lines[place + 1 :]])
    journal.write_bytes(damaged)
    with pytest.raises(InputError, match="is damaged .*; restore it, or remove it") as told:
        reopened(journal)
    assert str(journal) in str(told.value) and "\n" not in str(told.value)
    assert journal.read_bytes() == damaged


def told_by(made: optuna.Study) -> list[Any]:
    """All that a study knows of its trials, and whose it is."""
    trials = [(t.state, t.values, t.params, t.user_attrs) for t in made.get_trials()]
    return [*trials, made.user_attrs]


def test_a_moved_line_changes_nothing_or_is_told_and_the_journal_stays(journal):
    lines = journal.read_bytes().splitlines(keepends=True)
    whole, refused = told_by(reopened(journal)[0]), 0
    for place in range(len(lines)):
        for to in range(len(lines)):
            others = [*lines[:place], *lines[place + 1 :]]
            moved = b"".join([*others[:to], lines[place], *others[to:]])
            journal.write_bytes(moved)
            try:
                assert told_by(reopened(journal)[0]) == whole
            except InputError as error:
                refused += 1
                assert "is not in its place" in str(error) and "\n" not in str(error)
                assert journal.read_bytes() == moved
    assert refused > len(lines)


@pytest.mark.parametrize("end", [b"", b'{"op_code": 5, "tri'])
def test_whatever_is_refused_the_journal_stays(journal, end):
    raw = journal.read_bytes()
    first, second, *others = raw.splitlines(keepends=True)
    journal.write_bytes(b"".join([second, first, *others, end]))
    before = journal.read_bytes()
    with pytest.raises(InputError, match="is damaged"):
        of_journal(journal.parent, SETTINGS, MEASURES)
    assert journal.read_bytes() == before
    journal.write_bytes(raw)
    for settings, measures in (({}, MEASURES), (SETTINGS, [*MEASURES, "int8"])):
        with pytest.raises(InputError, match="holds a study .* with other settings"):
            of_journal(journal.parent, settings, measures)
        assert journal.read_bytes() == raw


def test_the_lock_of_a_killed_sweep_is_not_waited_for(journal, monkeypatch):
    """Optuna's own would for 30 seconds, or for ever where the path is not a whole one."""
    (journal.parent / f"{JOURNAL}.lock").symlink_to("sweep/optuna.journal")
    monkeypatch.chdir(journal.parent.parent)
    made = of_journal(Path(journal.parent.name), SETTINGS, MEASURES)
    made.set_user_attr("written", True)
    assert of_journal(journal.parent, SETTINGS, MEASURES).user_attrs["written"]


def together(count: int, action: Callable[[int], Any]) -> list[Any]:
    """What `count` calls at the same time return."""
    barrier = Barrier(count)

    def call(index: int) -> Any:
        barrier.wait()
        return action(index)

    with ThreadPoolExecutor(count) as pool:
        return [*pool.map(call, range(count))]


def test_several_may_be_the_first_to_use_a_storage(tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"

    def begin(_: int) -> str:
        made = of_storage(open_storage(url), "sweep", SETTINGS, MEASURES)
        made.tell(made.ask(), [0.5, 0.5])
        return made.study_name

    assert together(5, begin) == ["sweep"] * 5
    made = optuna.load_study(study_name="sweep", storage=url)
    assert made.user_attrs["settings"] == SETTINGS and len(made.get_trials()) == 5
    assert sorted(trial.number for trial in made.get_trials()) == [*range(5)]


def test_of_several_with_other_settings_one_has_the_study(tmp_path):
    url = f"sqlite:///{tmp_path}/new.db"
    open_storage(url)

    def begin(index: int) -> str:
        own = SETTINGS | {"config": {"seed": index}}
        try:
            of_storage(open_storage(url), "sweep", own, MEASURES)
        except InputError as error:
            return str(error)
        return "mine"

    said = together(5, begin)
    assert said.count("mine") == 1 and sum("other settings" in each for each in said) == 4
    claimed = optuna.load_study(study_name="sweep", storage=url).user_attrs["settings"]
    assert claimed["config"] == {"seed": said.index("mine")}


def test_whoever_made_a_study_and_died_is_not_waited_for_long(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PATIENCE", 0.2)
    url = f"sqlite:///{tmp_path}/new.db"
    optuna.create_study(study_name="sweep", storage=url, directions=["maximize"] * 2)
    made = of_storage(open_storage(url), "sweep", SETTINGS, MEASURES)
    assert json.loads(json.dumps(made.user_attrs["settings"])) == SETTINGS


@pytest.mark.parametrize("url", ["nothing://x", "x", "sqlite:////no/such/folder/x.db", "redis://x"])
def test_no_storage_is_told_at_once(url, monkeypatch):
    monkeypatch.setattr(study.time, "sleep", lambda _: pytest.fail("waits"))
    with pytest.raises(InputError, match=f"^`storage` {url}: ") as told:
        open_storage(url)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "found",
    [
        {**SETTINGS, "unknown": 1},
        {"report": SETTINGS["report"]},
        {**SETTINGS, "config": None},
        {**SETTINGS, "report": {"split": "val", "unknown": 1}},
        {**SETTINGS, "report": 5},
        [SETTINGS],
        {},
        5,
    ],
)
def test_a_study_whose_settings_are_not_these_is_refused_and_left(found):
    storage = optuna.storages.InMemoryStorage()
    made = of_storage(storage, "sweep", SETTINGS, MEASURES)
    made.set_user_attr("settings", found)
    with pytest.raises(InputError, match="holds a study 'sweep' with other settings"):
        of_storage(storage, "sweep", SETTINGS, MEASURES)
    assert made.user_attrs["settings"] == found


def test_a_study_has_as_many_directions_as_measures_and_their_names():
    storage, three = optuna.storages.InMemoryStorage(), [*MEASURES, "int8:bits=4"]
    made = of_storage(storage, "sweep", SETTINGS, three)
    assert made.directions == [optuna.study.StudyDirection.MAXIMIZE] * 3
    assert made.metric_names == three
    assert of_storage(storage, "sweep", SETTINGS, three).study_name == "sweep"
    with pytest.raises(InputError, match="holds a study 'sweep' with other settings"):
        of_storage(storage, "sweep", SETTINGS, MEASURES)
    optuna.create_study(study_name="alien", storage=storage, directions=["minimize", "maximize"])
    with pytest.raises(InputError, match="holds a study 'alien' with other settings"):
        of_storage(storage, "alien", SETTINGS, MEASURES)


@pytest.mark.parametrize("report", [{}, {"split": "test"}])
def test_a_study_whose_trials_were_chosen_on_test_images_is_refused(report):
    storage = optuna.storages.InMemoryStorage()
    made = of_storage(storage, "sweep", SETTINGS, MEASURES)
    made.set_user_attr("settings", {**SETTINGS, "report": report})
    with pytest.raises(InputError, match="study 'sweep' .* were chosen on test images"):
        of_storage(storage, "sweep", SETTINGS, MEASURES)


@pytest.fixture
def proxy(tmp_path) -> Iterator[str]:
    """The URL of Optuna's gRPC proxy in front of a database."""
    pytest.importorskip("grpc", reason="grpcio is not installed")
    from optuna.storages._grpc.server import make_server

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    server = make_server(open_storage(f"sqlite:///{tmp_path}/shared.db"), "localhost", port)
    server.start()
    yield f"grpc://localhost:{port}"
    server.stop(None)


def test_what_passes_a_proxy_is_what_the_database_holds(proxy, tmp_path):
    made = of_storage(open_storage(proxy), "sweep", SETTINGS, MEASURES)
    trial = made.ask()
    beta = trial.suggest_float("beta", 0, 1)
    made.tell(trial, [0.75, 0.25])
    (found,) = optuna.load_study(
        study_name="sweep", storage=f"sqlite:///{tmp_path}/shared.db"
    ).get_trials()
    assert found.params == {"beta": beta} and found.values == [0.75, 0.25]
    with pytest.raises(InputError, match="with other settings"):
        of_storage(open_storage(proxy), "sweep", SETTINGS | {"config": {"a": 1}}, MEASURES)


@pytest.mark.parametrize("url", ["grpc://localhost", "grpc://:13000", "grpc://localhost:port"])
def test_a_proxy_has_a_host_and_a_port(url):
    with pytest.raises(InputError, match=f"^`storage` must be grpc://HOST:PORT.*got {url}$"):
        open_storage(url)


def test_a_proxy_that_does_not_answer_or_cannot_be_asked_is_told(monkeypatch):
    monkeypatch.setattr(study, "PATIENCE", 0.01)
    with pytest.raises(InputError, match="^`storage` grpc://localhost:9: no gRPC proxy") as told:
        open_storage("grpc://localhost:9")
    assert "\n" not in str(told.value)
    monkeypatch.setitem(sys.modules, "grpc", None)
    with pytest.raises(InputError, match="pip install grpcio"):
        open_storage("grpc://localhost:9")


def test_a_proxy_that_is_gone_is_told_in_one_line():
    pytest.importorskip("grpc", reason="grpcio is not installed")
    with warnings.catch_warnings(action="ignore"):
        storage = optuna.storages.GrpcStorageProxy(host="localhost", port=9)
    with pytest.raises(study.storage_errors()) as told:
        storage.get_all_studies()
    assert "localhost" in study.reason(told.value) or "connect" in study.reason(told.value)
    assert "\n" not in study.reason(told.value)


@pytest.mark.parametrize("kind", ["postgresql+psycopg", "mysql+pymysql"])
def test_no_message_tells_a_password(kind):
    with pytest.raises(InputError) as caught:
        study.open_storage(f"{kind}://me:s3cr:et@localhost:1/sweeps?connect_timeout=1")
    assert "s3cr" not in str(caught.value) and "//me:***@localhost" in str(caught.value)
