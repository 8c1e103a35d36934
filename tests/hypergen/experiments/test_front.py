"""The front of a sweep on test images: the figures that a report on these has."""

import dataclasses

import pytest

from hypergen.errors import InputError
from hypergen.experiments.front import judge_samples
from hypergen.experiments.run_folder import ReportConfig
from hypergen.measures import square

SEVERAL = ("accuracy=0.4", "worst-class=0.2", "robustness=0.2", "int8:bits=3=0.2")


@pytest.mark.parametrize(
    ("sra_samples", "measures"),
    [(0, ()), (1, SEVERAL), (0, ("square:queries=20=1",))],
)
def test_stored_samples_have_the_figures_of_a_report_on_test_images(
    tiny, few, trained, tmp_path, sra_samples, measures, monkeypatch
):
    monkeypatch.setattr(square, "STRICT_QUERIES", 30)  # in place of 1000, which take long
    sizes = ReportConfig(2, 20, sra_samples, 10, "val")
    config = tiny.replace(measure=measures, objective="value" if measures else "direct")
    names = [spec.name for spec in config.objective.specs]
    run = trained(config, tmp_path / "run", sizes=sizes)
    found = judge_samples(run.folder, few, sizes)
    assert run.results["attack"]["split"] == "val"

    on_test = dataclasses.replace(sizes, split="test")
    again = trained(config, tmp_path / "run", resume=True, sizes=on_test).results
    assert again["attack"]["split"] == "test"
    summary = again["summary"]["sample"]
    judged_as = {"robustness": "sra" if sra_samples else "pgd"}
    assert sorted(found) == sorted(names)
    for name in names:
        expected = summary[judged_as.get(name, name)]["mean"]
        assert found[name] == pytest.approx(expected, abs=1e-6)


def test_samples_that_are_gone_are_told(tiny, few, trained, tmp_path):
    sizes = ReportConfig(2, 20, 0)
    run = trained(tiny, tmp_path / "run", sizes=sizes)
    first, last = sorted((run.folder / "samples").glob("*.safetensors"))
    last.unlink()
    with pytest.raises(InputError, match="holds 1 samples, not 2"):
        judge_samples(run.folder, few, sizes)
    first.unlink()
    with pytest.raises(InputError, match="holds no .safetensors files"):
        judge_samples(run.folder, few, sizes)
