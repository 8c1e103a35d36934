import json
import resource
import threading
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from hypergen.errors import RunError
from hypergen.runtime.tags import tag_of
from hypergen.runtime.tracker import METRICS, Tracker


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


@pytest.fixture
def full_disk():
    """Files end after 100,000 bytes, as on a disk without more space."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_metrics_are_in_both_files_at_once(tmp_path):
    tracker = Tracker(tmp_path, {"seed": 3, "dataset": "digits"})
    for step in range(3):
        tracker.log(step, {"loss": 1.0 / (step + 1), "accuracy": step / 2})
        assert len(records(tmp_path)) == step + 1
    found = events(tmp_path)  # before it is closed
    tracker.close()
    assert records(tmp_path)[1] == {"step": 1, "loss": 0.5, "accuracy": 0.5}
    assert set(found.Tags()["scalars"]) == {"loss", "accuracy"}
    assert [(event.step, event.value) for event in found.Scalars("accuracy")] == [
        (0, 0.0),
        (1, 0.5),
        (2, 1.0),
    ]
    (config,) = found.Tensors("config/text_summary")
    assert b"seed: 3" in config.tensor_proto.string_val[0]


def test_a_picture_is_kept(tmp_path):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2, 1), dpi=50)
    figure.subplots().plot([1, 2])
    tracker = Tracker(tmp_path, {})
    tracker.figure(4, "curve", figure)
    tracker.close()
    (picture,) = events(tmp_path).Images("curve")
    assert (picture.step, picture.width, picture.height) == (4, 100, 50)
    assert picture.encoded_image_string.startswith(b"\x89PNG")


def test_an_image_is_kept_as_it_is(tmp_path):
    from PIL import Image

    tracker = Tracker(tmp_path, {})
    tracker.image(2, "examples", Image.new("RGB", (30, 20), "red"))
    tracker.close()
    (picture,) = events(tmp_path).Images("examples")
    assert (picture.step, picture.width, picture.height) == (2, 30, 20)


def test_tags_are_described_in_every_file(tmp_path):
    """TensorBoard keeps the first description it meets, in whichever file that is."""
    for step in (0, 2):
        tracker = Tracker(tmp_path, {}, step)
        tracker.log(step, {"loss": 1.0, "check/robustness/gap": 0.1, "own": 2.0})
        tracker.log(step + 1, {"loss": 1.0})
        tracker.close()
    for path in tmp_path.glob("events*"):
        values = [
            value for event in LegacyEventFileLoader(str(path)).Load() for value in values_of(event)
        ]
        described = [each for each in values if each.metadata.summary_description]
        assert {each.tag for each in described} == {"loss", "check/robustness/gap"}
        (gap,) = (each.metadata for each in described if each.tag != "loss")
        assert gap.display_name == "check/robustness/gap (difference of shares, from -1 to 1)"
        assert gap.summary_description == tag_of("check/robustness/gap").meaning
        assert len([each for each in values if each.tag == "loss"]) == 2


def values_of(event) -> list:
    return [*event.summary.value] if event.HasField("summary") else []


def test_the_end_has_final_figures_and_what_led_to_them(tmp_path):
    settings = {"seed": 3, "dataset": "digits", "base": None, "measures": ("accuracy",)}
    tracker = Tracker(tmp_path, settings, measures=["accuracy"])
    tracker.log(0, {"loss": 1.0})
    tracker.close()
    for share in (0.5, 0.75):  # a report that is made anew
        tracker = Tracker(tmp_path, settings, 1, ["accuracy"])
        names = ["final/sample/accuracy", "final/start/accuracy"]
        tracker.finish(1, dict.fromkeys(names, share), names[:1])
        tracker.close()
    found = events(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("final/sample/accuracy")] == [(1, 0.75)]
    assert [e.step for e in found.Scalars("loss")] == [0]
    assert records(tmp_path) == [{"step": 0, "loss": 1.0}]
    started = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = HParamsPluginData.FromString(started).session_start_info.hparams
    assert {*hparams} == {"seed", "dataset", "measures"} and hparams["seed"].number_value == 3
    experiment = found.SummaryMetadata("_hparams_/experiment").plugin_data.content
    metrics = HParamsPluginData.FromString(experiment).experiment.metric_infos
    assert [each.name.tag for each in metrics] == ["final/sample/accuracy"]
    (charts,) = found.Tensors("custom_scalars__config__")[:1]
    assert b"/accuracy$" in charts.tensor_proto.string_val[0]


def test_a_resumed_run_writes_later_steps_again(tmp_path):
    first = Tracker(tmp_path, {})
    for step in range(6):
        first.log(step, {"loss": 1.0})
    first.close()
    second = Tracker(tmp_path, {}, step=3)
    assert [record["step"] for record in records(tmp_path)] == [0, 1, 2]
    for step in range(3, 5):
        second.log(step, {"loss": 2.0})
    second.close()
    expected = [(0, 1.0), (1, 1.0), (2, 1.0), (3, 2.0), (4, 2.0)]
    assert [(record["step"], record["loss"]) for record in records(tmp_path)] == expected
    scalars = [(event.step, event.value) for event in events(tmp_path).Scalars("loss")]
    assert scalars == expected


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"3", b"[]", b"{}", b'{"step": "1"}', b'{"step": true}', b"\xff", b"[" * 100_000],
)
def test_a_damaged_line_and_all_after_it_are_dropped(tmp_path, line):
    lines = [b'{"step": 0, "loss": 1.0}', b'{"step": 1, "loss": 1.0}']
    (tmp_path / METRICS).write_bytes(b"\n".join([lines[0], line, lines[1]]) + b"\n")
    Tracker(tmp_path, {}, step=5).close()
    assert (tmp_path / METRICS).read_bytes() == lines[0] + b"\n"


def test_a_line_that_a_kill_cut_short_is_dropped(tmp_path):
    (tmp_path / METRICS).write_text('{"step": 0}\n{"step": 1}')
    Tracker(tmp_path, {}, step=5).close()
    assert records(tmp_path) == [{"step": 0}]


@pytest.mark.parametrize("file", [METRICS, "events"])
def test_a_full_disk_is_told_in_one_line_with_the_files_name(tmp_path, full_disk, file, capfd):
    threads = threading.active_count()
    tracker = Tracker(tmp_path, {})
    values = {"loss": 1.0}
    if file == METRICS:
        (tmp_path / METRICS).write_text(json.dumps({"step": 0}) + "\n" + " " * 99_980 + "\n")
    else:
        values = {f"{index}": 1.0 for index in range(50)}
    with pytest.raises(RunError) as caught:
        for step in range(1000):
            if file != METRICS:
                (tmp_path / METRICS).unlink(missing_ok=True)  # the other one is to fill up
            tracker.log(step, values)
    tracker.close()
    message = str(caught.value)
    assert "\n" not in message and "File too large" in message and file in message
    assert str(tmp_path) in message
    assert threading.active_count() == threads and capfd.readouterr().err == ""


def test_a_folder_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(RunError, match=f"cannot write {tmp_path}/none/{METRICS}: No such file"):
        Tracker(tmp_path / "none", {})
