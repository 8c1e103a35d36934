"""Reports made of folders: what they take in, and what they refuse."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

import hypergen
from attacks import Threat
from hypergen.cli import train as train_command
from hypergen.errors import InputError, RunError
from hypergen.evaluation.evaluator import Evaluator
from hypergen.experiments import pages
from hypergen.experiments.attacked_samples import IMAGES, SHOWN, attacked_samples, chosen
from hypergen.experiments.command_line import making_line
from hypergen.experiments.made_by import making_of_run
from hypergen.experiments.report import page_of, report_files
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.experiments.run_page import spent
from hypergen.experiments.side_by_side import CompareConfig
from tests.hypergen.report.pages import Cells


@pytest.fixture
def run(ranged_run, tmp_path) -> Path:
    """A copy of a short run for preferences in a range."""
    return Path(shutil.copytree(ranged_run.folder, tmp_path / "run"))


def test_a_run_ends_with_its_report(ranged_run):
    read = Cells((ranged_run.folder / "report.html").read_text())
    assert read.json("results") == json.loads((ranged_run.folder / "results.json").read_text())
    assert len(read.loaded) > SHOWN, "no attacked images"


def test_a_report_takes_in_what_the_folder_holds(run, cpu):
    """The data are those of the run, or the page says why there are no images."""
    curve = {"dataset": "digits", "attack": None}
    curve["curve"] = [
        {"beta": beta, "count": 1, "accuracy": {"mean": 0.5, "interval": None}}
        for beta in (0.0, 0.8)
    ]
    (run / "samples-seed1").mkdir()
    (run / "samples-seed1" / "curve.json").write_text(json.dumps(curve))
    file = hypergen.write_report(str(run))
    assert file == run / "report.html"
    text = file.read_text()
    assert "Networks drawn at each beta (samples-seed1)" in text and "Not shown here" not in text
    row = {"file": "sample-0000.safetensors", "verdict": "masked", "reasons": ["flat"]}
    (run / "checks.json").write_text(json.dumps({"networks": [row, {"file": "unchecked"}]}))
    shutil.rmtree(run / "samples")
    page = page_of(run, cpu)
    (checked,) = [table for table in page.tables if "verdict" in table.headers]
    assert checked.rows == [("sample-0000.safetensors", "masked", "flat")]
    (section,) = [section for section in page.sections if section.title == "Attacked images"]
    (told,) = section.blocks
    assert told.texts[0].startswith("Not shown here: ")


@pytest.mark.parametrize(
    ("settings", "start", "steps"),
    [
        ({}, "an untrained network", "3"),
        ({"beta": "1"}, "pgd", "7"),
        ({"base": "/home/ann/net.pt", "attack_steps": 2}, "net.pt", "2"),
    ],
)
def test_the_page_tells_what_follows_from_other_settings(tiny, few, settings, start, steps):
    told = spent(RunSettings(tiny.replace(**settings), few.info, ReportConfig()))
    assert (told["started from"], told["steps of an attack"]) == (start, steps)


def test_the_command_on_the_page_makes_the_same_run(tiny, few):
    config = tiny.replace(
        measure=("accuracy=0.5", "jpeg=0.5"), objective="value", base="standard", grey=True
    )
    settings = RunSettings(config, few.info, ReportConfig(samples=3), baselines=False)
    words = shlex.split(making_line(making_of_run(settings)))
    made, own = train_command.COMMAND.parse("train", words[2:])
    assert words[:2] == ["hypergen", "train"] and own.no_baseline
    assert made == {"training": config, "report": settings.report}


def test_markdown_and_pdf(run, cpu, monkeypatch, tmp_path):
    options = CompareConfig()
    file = report_files([run], options, None, "md", cpu)
    assert file == run / "report.md" and file.read_text().startswith("# run\n")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="printed by Chromium or Google Chrome"):
        report_files([run], options, None, "pdf", cpu)
    program = tmp_path / "chromium"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "(out,) = [word.partition('=')[2] for word in sys.argv if '--print-to-pdf=' in word]\n"
        "open(out, 'w').write('%PDF ' + sys.argv[-1])\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(pages, "browser", lambda: str(program))
    page = page_of(run, cpu)
    pages.write_page(tmp_path / "a.pdf", page, "pdf")
    assert (tmp_path / "a.pdf").read_text().startswith("%PDF file:///")
    program.write_text("#!/bin/sh\necho no display >&2; exit 3\n")
    with pytest.raises(RunError, match="failed to print: no display"):
        pages.write_page(tmp_path / "b.pdf", page, "pdf")
    assert not (tmp_path / "b.pdf").exists()


def test_what_is_no_result_is_refused(run, cpu, tmp_path):
    def refused(*paths: Path) -> str:
        with pytest.raises(InputError) as error:
            report_files(paths, CompareConfig(), None, "html", cpu)
        return str(error.value)

    assert "needs the folder of a run" in refused()
    assert "is not the folder" in refused(tmp_path / "nowhere")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is no run, sweep, search or analysis" in refused(empty)
    (empty / "results.json").write_text("{}")
    assert "is damaged, or of another version" in refused(empty)
    (run / "results.json").unlink()
    assert "let it end, or resume it" in refused(run)
    with pytest.raises(InputError, match="`form` must be one of html, md, pdf"):
        hypergen.write_report(run, form="doc")  # pyright: ignore[reportArgumentType]


def test_several_are_judged_side_by_side(run, ranged_run, tmp_path):
    out = tmp_path / "both.html"
    done = hypergen.write_report(
        [run, ranged_run.folder], out=out, attack="pgd", images=8, steps=2, restarts=1
    )
    read = Cells(out.read_text())
    assert done == out and len(read.json("results")["groups"]) == 2
    assert [row[0] for row in read.tables[-1][1:]] == ["run", "ranged"]


def test_attacked_images_are_what_they_are_said_to_be(population, few):
    threat = Threat("linf", 0.1)
    evaluator = Evaluator(threat, images=5, seed=3)
    names = ["a", "b", "c"]
    samples = attacked_samples(population, names, few, evaluator)
    assert [sample.name for sample in samples] == ["a", "b"]
    images, _ = few.test.first(IMAGES)
    for sample, network in zip(samples, population, strict=False):
        assert sample.attack["steps"] == 20 and sample.attack["images"] == IMAGES
        change = torch.tensor(sample.attacked - sample.clean).abs().amax((1, 2, 3))
        assert len(sample.labels) <= SHOWN and bool((change <= threat.epsilon + 1e-6).all())
        for given, told in ((sample.clean, sample.before), (sample.attacked, sample.after)):
            sure, number = network(torch.tensor(given)).softmax(-1).max(-1)
            assert [each for each, _ in told] == number.tolist()
            assert [share for _, share in told] == pytest.approx(sure.tolist(), abs=1e-5)
        assert [number for number, _ in sample.before] == sample.labels
        assert all(any(torch.equal(torch.tensor(x), y) for y in images) for x in sample.clean)


def test_images_that_fool_come_first_and_others_fill_up():
    labels = torch.zeros(12, dtype=torch.long)
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])

    def answers(wrong_ones) -> torch.Tensor:
        return torch.stack([wrong if i in wrong_ones else right for i in range(12)])

    assert chosen(answers([0]), answers([0, 5, 7]), labels).tolist() == [5, 7, 1, 2, 3, 4]
    assert chosen(answers([]), answers(range(5)), labels).tolist() == [0, 1, 2, 5, 6, 7]
    assert chosen(answers([]), answers(range(11)), labels).tolist() == [0, 1, 2, 3, 4, 11]
    assert chosen(answers([]), answers([]), labels).tolist() == [0, 1, 2, 3, 4, 5]
    assert chosen(answers(range(12)), answers([]), labels).tolist() == []
