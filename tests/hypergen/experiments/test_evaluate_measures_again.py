"""Measures of an evaluation that is repeated: what is kept, and what is told apart."""

from dataclasses import replace

import pytest

import hypergen
from hypergen.cli.main import main
from hypergen.measures import LogitMeasure
from hypergen.storage.results_cache import ResultsCache
from tests.hypergen.experiments.quick_evaluation import asking


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The measures that have counted images."""
    names, whole = [], LogitMeasure.correct

    def correct(self, *rest):
        names.append(self.name)
        return whole(self, *rest)

    monkeypatch.setattr(LogitMeasure, "correct", correct)
    return names


def test_what_is_kept_is_not_measured_again(found, base, saved, tmp_path, counted, monkeypatch):
    names = ("transfer", "certified", "calibration")
    files = [base, saved(tmp_path / "other.safetensors", seed=1)]
    options = asking(*names)
    plain = found(*files, options=options)
    path = tmp_path / "masks.jsonl"
    assert found(*files, options=options, cache=ResultsCache(path)) == plain
    counted.clear()
    monkeypatch.setattr("hypergen.measures.transfer.Transfer.prepare", None)  # is not called
    assert found(*files, options=options, cache=ResultsCache(path)) == plain
    assert counted == []


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"steps": 3}, {"images": 21}, {"epsilon": 0.03}, {"measures": ("transfer",)}],
    ids=str,
)
def test_what_decides_a_figure_is_told_apart(found, base, saved, tmp_path, counted, other):
    files = [base, saved(tmp_path / "other.safetensors", seed=1)]
    path, options = tmp_path / "masks.jsonl", asking("robustness:norm=linf")
    found(*files, options=options, cache=ResultsCache(path))
    counted.clear()
    changed = replace(options, **other)
    again = found(*files, options=changed, cache=ResultsCache(path))
    assert counted and again == found(*files, options=changed)


DARK = """
import hypergen
from hypergen.measures import ImageMeasure


@hypergen.register_measure("dark")
class Dark(ImageMeasure):
    def prepare(self, population, images, labels, stage):
        return (images * SHARE).expand(len(population), *images.shape)
"""


def test_a_plugin_of_the_command_line_brings_a_measure(base, tmp_path, capsys):
    plugin = tmp_path / "dark.py"
    plugin.write_text(DARK.replace("SHARE", "1.0"))
    line = f"evaluate {base} --images 20 --steps 1 --restarts 1 --epsilon 0 --measure dark"
    assert main(line.split()) == 2
    assert 'unknown measure "dark"' in capsys.readouterr().err
    assert main([*line.split(), "--plugin", str(plugin)]) == 0
    head, row = capsys.readouterr().out.splitlines()[:2]
    assert head.split()[-1] == "dark" and row.split()[-1] == row.split()[-2]  # as PGD at 0


def test_a_changed_plugin_is_told_apart(found, base, tmp_path):
    plugin, cache = tmp_path / "dark.py", ResultsCache(tmp_path / "masks.jsonl")
    figures = []
    for share in ("1.0", "0.0"):
        plugin.write_text(DARK.replace("SHARE", share))
        hypergen.load_plugin(plugin)
        options = replace(asking("dark"), epsilon=0.0)
        figures.append(found(base, options=options, cache=cache)["networks"][0])
    assert figures[0]["dark"] == figures[0]["pgd"] == figures[1]["pgd"] > figures[1]["dark"]


def test_other_companions_are_told_apart(found, base, saved, tmp_path, counted):
    other = saved(tmp_path / "other.safetensors", seed=1)
    path, options = tmp_path / "masks.jsonl", asking("transfer")
    found(base, options=options, cache=ResultsCache(path))
    counted.clear()
    both = found(base, other, options=options, cache=ResultsCache(path))
    assert counted and both == found(base, other, options=options)
