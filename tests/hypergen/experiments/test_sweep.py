"""Sweeps: their folders, their storages, and what they find."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest

from hypergen.config import TrainConfig
from hypergen.errors import InputError
from hypergen.experiments import front
from hypergen.experiments import sweep as module
from hypergen.experiments import trials as trials_module
from hypergen.experiments.run_folder import ReportConfig, RunSettings, fingerprint
from hypergen.experiments.rungs import RUNGS
from hypergen.experiments.sweep import Sweep, run_sweep
from hypergen.experiments.sweep_config import SweepConfig
from hypergen.experiments.trials import Machine, Trials
from hypergen.report.fronts import front_table
from hypergen.report.sweep_plots import trial_points
from hypergen.runtime.progress import SILENT
from hypergen.storage.lock import lock

MACHINE = Machine("cpu", None)
MEASURED = TrainConfig.of(
    target="mlp",
    objective="value",
    measure=("accuracy=0.5", "int8:bits=4=0.3", "robustness=0.2"),
)
CONFIG = TrainConfig.of(target="mlp")


@pytest.fixture
def opened(few) -> Callable[..., Sweep]:
    def open_sweep(
        folder: Path,
        config: TrainConfig = CONFIG,
        storage: str | None = None,
        vary: tuple[str, ...] = (),
    ) -> Sweep:
        options = SweepConfig(storage=storage, vary=vary)
        return Sweep(config, few, folder, options, ReportConfig())

    return open_sweep


def trials(sweep: Sweep) -> Trials:
    return Trials(sweep.study, sweep.folder, sweep.owner, sweep.measures, MACHINE, workers=1)


def ask(sweep: Sweep) -> optuna.Trial:
    return trials(sweep).ask(sweep.write_settings)


def test_a_trial_is_an_ordinary_run_with_chosen_settings(opened, few, tmp_path):
    sweep = opened(tmp_path / "sweep")
    trial = ask(sweep)
    begun = RunSettings.load(trials(sweep).run_folder(trial))
    assert float(begun.config.objective.beta) == pytest.approx(trial.params["beta"], abs=1e-6)
    assert begun.config == CONFIG.replace(beta=begun.config.objective.beta, steps=1000, base=None)
    assert begun.info == few.info and not begun.baselines
    assert begun.report == ReportConfig(split="val")
    assert begun.images == fingerprint(few)
    assert json.loads(json.dumps(sweep.settings)) == sweep.settings  # as the folder's are compared
    sweep.close()


def test_a_continued_sweep_draws_what_it_would_have_drawn(opened, tmp_path):
    """Also of a trial that had been begun, and of which nothing had been chosen."""

    def drawn(sweep: Sweep) -> float:
        trial = ask(sweep)
        sweep.study.tell(trial.number, [0.5, 0.5])
        return trial.params["beta"]

    whole = opened(tmp_path / "whole")
    expected = [drawn(whole) for _ in range(4)]
    whole.close()
    assert len(set(expected)) == 4
    found = []
    for begun in range(4):
        again = opened(tmp_path / "again")
        if begun == 2:
            again.study.ask()
            again.close()
            again = opened(tmp_path / "again")
            mine = again.study, again.folder, again.owner, again.measures, MACHINE
            (trial,) = Trials(*mine, workers=1, alone=True).abandoned(again.write_settings)
            again.study.tell(trial.number, [0.5, 0.5])
            found.append(trial.params["beta"])
        else:
            found.append(drawn(again))
        again.close()
    assert found == expected


def test_a_closed_sweep_leaves_no_lock(opened, tmp_path):
    opened(tmp_path / "sweep").close()
    assert {path.name for path in (tmp_path / "sweep").glob(".*")} == set()


def test_a_run_of_a_lost_trial_is_set_aside(opened, tmp_path):
    """As after a journal that lost its last lines: a trial of that number gets other settings."""
    sweep = opened(tmp_path / "sweep")
    lost = ask(sweep)
    folder = trials(sweep).run_folder(lost)
    (folder / "results.json").write_text("{}")
    before = RunSettings.load(folder)
    sweep.close()
    (tmp_path / "sweep" / "optuna.journal").unlink()
    again = opened(tmp_path / "sweep")
    assert ask(again).params == lost.params  # the same is drawn, and the run is continued
    assert (folder / "results.json").exists()
    trial = again.study.get_trials()[0]
    again.write_settings(optuna.trial.FixedTrial({"beta": 0.125}), folder)  # pyright: ignore
    assert RunSettings.load(folder).config.objective.beta == "0.125" and trial.number == 0
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    aside = folder.with_name("trial-0000-lost-1")
    assert RunSettings.load(aside) == before and (aside / "results.json").exists()
    again.close()


def test_a_folder_that_was_renamed_is_still_its_sweep(opened, tmp_path):
    first = opened(tmp_path / "sweep")
    trial = ask(first)
    first.close()
    (tmp_path / "sweep").rename(tmp_path / "renamed")
    again = opened(tmp_path / "renamed")
    alone = trials(again)
    alone.alone = True
    (taken,) = alone.abandoned(again.write_settings)
    assert taken.params == trial.params
    again.close()


def damaged_settings(settings: dict) -> list[object]:
    """The settings of a sweep with something more, something less, or of another type."""
    report = settings["report"]
    return [
        settings | {"unknown": 1},
        {name: value for name, value in settings.items() if name != "vary"},
        settings | {"report": report | {"unknown": 1}},
        settings | {"report": report | {"samples": str(report["samples"])}},
        settings | {"config": settings["config"] | {"unknown": 1}},
        settings | {"config": None},
        settings | {"images": "0" * 64},
        {},
        [settings],
    ]


def test_a_folder_whose_settings_are_not_these_is_refused_and_left(opened, tmp_path):
    folder = tmp_path / "sweep"
    opened(folder).close()
    path = folder / "sweep.json"
    settings = json.loads(path.read_text())
    for damaged in damaged_settings(settings):
        path.write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=r"other settings|is damaged") as told:
            opened(folder)
        assert "\n" not in str(told.value) and json.loads(path.read_text()) == damaged
    path.write_text(json.dumps(settings))
    opened(folder).close()


@pytest.mark.parametrize("split", [{}, {"split": "test"}])
def test_a_sweep_whose_trials_were_chosen_on_test_images_is_refused(opened, tmp_path, split):
    sweep = opened(tmp_path / "sweep")
    sweep.close()
    report = {n: v for n, v in sweep.settings["report"].items() if n != "split"} | split
    old = sweep.settings | {"report": report}
    (sweep.folder / "sweep.json").write_text(json.dumps(old))
    with pytest.raises(InputError, match="the sweep in .* were chosen on test images"):
        opened(sweep.folder)


def test_a_trial_that_does_not_say_whose_it_is_has_its_name(opened, tmp_path):
    sweep = opened(tmp_path / "sweep")
    owners = [5, ["host"], ["host", 3], {"host": "x"}, ["a", "b", "c"]]
    for attributes in ({}, *({"owner": owner} for owner in owners)):
        trial = optuna.create_trial(values=[0.5, 0.5], user_attrs=attributes)
        sweep.study.add_trial(trial)
    rows = sweep.report(sweep.judge_front(MACHINE, SILENT))["trials"]
    assert sorted(row["run"] for row in rows) == [f"trial-{index:04d}" for index in range(6)]
    assert all(row["test"] is None and row["beta"] is None for row in rows)
    sweep.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def shared(request, tmp_path) -> str:
    """The URL of a storage that several sweeps may use."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db"
    return request.getfixturevalue("postgresql")


def test_sweeps_that_share_a_storage_draw_and_tell_what_the_other_does_not(
    opened, shared, tmp_path, monkeypatch
):
    # Both are opened before either has asked for a trial.
    sweeps = [opened(tmp_path / place / "sweep", storage=shared) for place in ("one", "two")]
    asked = [ask(sweep) for sweep in sweeps for _ in range(2)]
    assert len({trial.params["beta"] for trial in asked}) == 4
    for trial in asked:
        sweeps[0].study.tell(trial, [0.5, 0.5])

    def told(sweep: Sweep) -> list[str]:
        result = sweep.report()
        rows = json.loads((sweep.folder / "results.json").read_text())["trials"]
        assert len(rows) == 4 and rows == json.loads(json.dumps(result))["trials"]
        return sorted(row["run"] for row in rows)

    runs = sorted(str(run) for run in tmp_path.glob("*/sweep/trial-*"))
    assert told(sweeps[0]) == told(sweeps[1]) == runs
    here = socket.gethostname()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    assert told(sweeps[0]) == [*runs[:2], *(f"{here}:{run}" for run in runs[2:])]
    for sweep in sweeps:
        sweep.close()


def test_the_front_is_what_no_trial_beats(opened, tmp_path):
    sweep = opened(tmp_path / "sweep")
    scores = [(0.9, 0.1), (0.5, 0.6), (0.4, 0.6), (0.8, 0.1), (0.7, 0.4), (0.7, 0.4)]
    for values in scores:
        sweep.study.tell(ask(sweep), values)
    rows = sweep.report()["trials"]
    assert [row["robustness"] for row in rows] == sorted((r for _, r in scores), reverse=True)
    for row in rows:
        mine = row["accuracy"], row["robustness"]
        beaten = any(a >= mine[0] and r >= mine[1] and (a, r) != mine for a, r in scores)
        assert row["kind"] == ("dominated" if beaten else "front")
        assert row["split"] == "val" and row["test"] is None
    assert (sweep.folder / "scatter.png").read_bytes().startswith(b"\x89PNG")
    sweep.close()


def test_the_front_of_any_measures_is_what_no_trial_beats_in_all(opened, tmp_path):
    """Three trade off on a plane; one is below, and one equal to another."""
    sweep = opened(tmp_path / "sweep", MEASURED)
    names = ["accuracy", "int8:bits=4", "robustness"]
    assert sweep.study.metric_names == sweep.measures == names
    scores = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0.5, 0), (0, 1, 0), (0.5, 0.25, 0.25)]
    for values in scores:
        sweep.study.tell(ask(sweep), values)
    result = sweep.report()
    assert result["measures"] == names
    assert result["varied"] == ["measure.int8:bits=4", "measure.robustness"]
    found = [tuple(row[name] for name in names) for row in result["trials"]]
    kinds = dict(zip(found, [row["kind"] for row in result["trials"]], strict=True))
    assert sorted(found) == sorted(scores)
    assert found == sorted(found, key=lambda figures: figures[1], reverse=True)
    assert {figures for figures, kind in kinds.items() if kind == "dominated"} == {(0, 0.5, 0)}
    assert (sweep.folder / "scatter.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((sweep.folder / "results.json").read_text()) == result
    sweep.sessions.save()
    sweep.close()
    begun = json.loads((sweep.folder / "sessions.json").read_text())["sessions"]
    again = opened(tmp_path / "sweep", MEASURED)
    assert len(begun) == 1 and again.report()["sessions"][:1] == begun
    again.close()


def test_the_weights_of_a_trial_are_those_that_were_chosen(opened, tmp_path):
    sweep = opened(tmp_path / "sweep", MEASURED)
    trial = ask(sweep)
    begun = RunSettings.load(trials(sweep).run_folder(trial)).config
    accuracy, int8, robustness = begun.objective.specs
    assert (accuracy.low, accuracy.high) == (0.5, 0.5)
    for spec in (int8, robustness):
        chosen = trial.params[f"measure.{spec.name}"]
        assert 0 <= spec.low == spec.high == pytest.approx(chosen, abs=1e-6)
    assert begun.replace(measure=MEASURED.objective.measures, steps=None, base="auto") == MEASURED
    sweep.close()


def test_the_front_alone_is_judged_on_test_images_and_once(opened, tmp_path, monkeypatch):
    judged, sick = [], set()

    def judge(run, dataset, sizes):
        judged.append(run.name)
        if run.name in sick:
            raise InputError("no samples")
        return {"accuracy": 0.75, "robustness": 0.25}

    monkeypatch.setattr(front, "judge_samples", judge)
    sweep = opened(tmp_path / "sweep")
    for values in ((0.9, 0.1), (0.5, 0.6), (0.8, 0.1)):
        sweep.study.tell(ask(sweep), values)
    sick.add("trial-0001")
    failed = sweep.judge_front(MACHINE, SILENT)
    assert sorted(judged) == ["trial-0000", "trial-0001"]
    result = sweep.report(failed)
    assert result["failed"] == {str(sweep.folder / "trial-0001"): "no samples"}
    found = {Path(row["run"]).name: row["test"] for row in result["trials"]}
    assert found["trial-0000"] == {"accuracy": 0.75, "robustness": 0.25}
    assert found["trial-0001"] is None and found["trial-0002"] is None
    assert {row["kind"] for row in trial_points(result["trials"])} == {
        "front, validation images",
        "dominated, validation images",
        "front, test images",
    }
    sweep.close()

    judged.clear()
    sick.clear()
    again = opened(tmp_path / "sweep")
    again.study.tell(ask(again), (0.95, 0.5))  # the front has another trial now
    assert again.judge_front(MACHINE, SILENT) == {}
    assert sorted(judged) == ["trial-0001", "trial-0003"]
    again.study.set_user_attr("test-0001", {"accuracy": "high"})  # no figures: judged anew
    assert again.judge_front(MACHINE, SILENT) == {} and judged[2:] == ["trial-0001"]
    again.close()


class AtWork:
    """Instead of a trial's process: its run has reached a rung, and what depends on beta."""

    def __init__(self, command: list[str], **options: object):
        folder = Path(command[command.index("--out") + 1])
        begun = RunSettings.load(folder)
        assert begun.rungs == RUNGS
        beta = float(begun.config.objective.beta)
        reached = {"accuracy": [beta, beta], "robustness": [beta, beta]}
        (folder / "rungs.json").write_text(json.dumps({"0.5": reached}))
        sample = {"accuracy": {"mean": beta}, "sra": {"mean": beta}}
        result = {"report": asdict(begun.report), "summary": {"sample": sample}}
        (folder / "results.json").write_text(json.dumps(result))
        self.left, self.returncode = 1, 0

    def poll(self) -> int | None:
        self.left -= 1
        return None if self.left == 0 else self.returncode

    def send_signal(self, number: int) -> None:
        assert number == signal.SIGINT

    def wait(self, timeout: float) -> int:
        return self.returncode


def test_a_sweep_prunes_what_another_trial_beats_at_a_rung(few, tmp_path, monkeypatch):
    process = SimpleNamespace(**vars(subprocess) | {"Popen": AtWork})
    monkeypatch.setattr(trials_module, "subprocess", process)
    monkeypatch.setattr(front, "judge_samples", lambda *_: {"accuracy": 0.5, "robustness": 0.5})
    monkeypatch.setattr(module.sweep_report, "draw", lambda *_: None)
    options = SweepConfig(trials=8, sampler="random", pruner="halving")
    folder = tmp_path / "sweep"
    result = run_sweep(CONFIG, few, folder, options, MACHINE, ReportConfig(), SILENT)
    pruned, betas = {}, []
    for number in range(8):  # the rule, counted anew
        run = folder / f"trial-{number:04d}"
        betas.append(float(RunSettings.load(run).config.objective.beta))
        better = sum(other > betas[-1] for other in betas)
        if number >= 3 and better >= (number + 2) // 2:
            pruned[str(run)] = betas[-1]
    assert 2 <= len(pruned) <= 4 and len(result["trials"]) == 8 - len(pruned)
    assert {row["run"]: row["at_rung"]["accuracy"] for row in result["pruned"]} == pruned
    for row in result["pruned"]:
        assert row["kind"] == "pruned" and row["rung"] == 0.5
        assert row["beta"] == pytest.approx(row["at_rung"]["robustness"], abs=1e-6)
    note = f"{len(pruned)} of them were pruned: {len(pruned)} after 50 % of their steps"
    assert note in str(front_table(result))


def test_a_run_goes_on_when_its_sweep_prunes_from_now_on(few, tmp_path):
    usual, prunes = SweepConfig(), SweepConfig(pruner="halving")
    for options, rungs in ((usual, ()), (prunes, RUNGS), (usual, ())):
        sweep = Sweep(CONFIG, few, tmp_path / "sweep", options, ReportConfig())
        (trial,) = trials(sweep).abandoned(sweep.write_settings) or [ask(sweep)]
        assert (
            trial.number == 0 and RunSettings.load(trials(sweep).run_folder(trial)).rungs == rungs
        )
        sweep.close()
    assert [path.name for path in tmp_path.glob("sweep/trial-*")] == ["trial-0000"]


def test_unfinished_trials_of_a_dead_sweep_are_taken_up(opened, tmp_path):
    first = opened(tmp_path / "sweep")
    trial = ask(first)
    first.close()
    again = opened(tmp_path / "sweep")
    (taken,) = trials(again).abandoned(again.write_settings)
    assert taken.number == trial.number and taken.params == trial.params
    again.close()


def test_two_sweeps_do_not_work_in_one_folder(opened, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "GRACE_SECONDS", 0.0)
    first = opened(tmp_path / "sweep")
    with pytest.raises(InputError, match="another hypergen is at work"):
        opened(tmp_path / "sweep")
    first.close()


def test_of_two_sweeps_begun_together_the_second_leaves_nothing(opened, tmp_path, monkeypatch):
    def lock_after_another(*args):
        monkeypatch.setattr(module, "lock", lock)
        opened(tmp_path / "sweep").close()
        return lock(*args)

    monkeypatch.setattr(module, "lock", lock_after_another)
    with pytest.raises(InputError, match="holds a sweep with other settings"):
        opened(tmp_path / "sweep", CONFIG.replace(epsilon=0.2))
    opened(tmp_path / "sweep").close()


def test_a_folder_of_something_else_is_left_as_it_is(opened, tmp_path):
    (tmp_path / "mine").touch()
    for storage in (None, f"sqlite:///{tmp_path / 'new.db'}"):
        with pytest.raises(InputError, match="exists and is not a sweep"):
            opened(tmp_path, storage=storage)
        assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_what_cannot_be_swept_leaves_nothing(few, tmp_path):
    folder = tmp_path / "sweep"
    for config, vary, words in (
        (CONFIG, ("beta=0:1", "beta=0:0.5"), "beta is given twice"),
        (CONFIG, ("steps=0:3",), "`steps` must be at least 1"),
        (CONFIG.replace(base=str(tmp_path / "none.pt")), (), "none.pt"),
        (MEASURED.replace(measure=("accuracy=1",)), (), "name another `measure`"),
        (MEASURED.replace(measure=("int8=1",)), (), "`vary` is needed"),
        (MEASURED.replace(measure=("accuracy=0:1", "int8=0:1")), (), "`vary` is needed"),
        (MEASURED.replace(measure=("accuracy=1", "int9=1")), (), 'did you mean "int8"'),
        (MEASURED.replace(measure=("accuracy=1", "int8:bits=1=1")), (), "`bits` must be"),
        (
            MEASURED.replace(measure=("accuracy=1", "worst-class=1"), objective="direct"),
            (),
            "worst-class has no loss to descend",
        ),
    ):
        with pytest.raises(InputError, match=words):
            Sweep(config, few, folder, SweepConfig(vary=vary), ReportConfig())
        assert not folder.exists()


def test_an_interrupted_sweep_leaves_no_lock(few, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trials, "work", interrupted)
    folder = tmp_path / "sweep"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(CONFIG, few, folder, SweepConfig(), MACHINE, ReportConfig(), SILENT)
    assert (folder / "sweep.json").exists() and not list(folder.glob(".*"))
