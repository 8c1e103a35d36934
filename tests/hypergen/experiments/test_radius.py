"""What is drawn from, and told of, a generator that was trained for a range of radii."""

import json

import pytest
import torch

from hypergen.errors import InputError
from hypergen.experiments.command_line import making_line
from hypergen.experiments.explorer import Explorer, Slider
from hypergen.experiments.made_by import made_by
from hypergen.experiments.run_folder import ReportConfig, RunSettings
from hypergen.experiments.sample import draw_samples
from hypergen.experiments.sample_config import SampleConfig
from hypergen.experiments.search import SearchConfig, search
from hypergen.report.fronts import curve_table
from hypergen.report.page.trade_off import trade_off_blocks
from hypergen.report.plots import curve_picture
from hypergen.storage.weights import read_metadata


@pytest.fixture
def of_radii(tiny, trained, tmp_path):
    """A run of radii from 0.05 to 0.2."""
    config = tiny.replace(epsilon=(0.05, 0.2), steps=8, max_robustness_gap=0.9)
    return trained(config, tmp_path / "run", sizes=ReportConfig(3, 8, 0))


def test_networks_are_drawn_at_a_radius_and_say_so(of_radii, few):
    sampler, out = of_radii.sampler, of_radii.folder / "drawn"
    config = SampleConfig(2, keep=1, radius="0.05:0.2:3", images=8)
    found = draw_samples(sampler, few, out, config)
    assert [row["radius"] for row in found["networks"]] == pytest.approx([0.05, 0.125, 0.2])
    assert [point["radius"] for point in found["curve"]] == pytest.approx([0.05, 0.125, 0.2])
    assert found["attack"]["threat"]["epsilon"] == 0.2  # all alike, so that they compare
    assert str(curve_table(found)).startswith("radius") and 0 <= found["hypervolume"] <= 1
    (axes,) = curve_picture(found).axes
    assert axes.get_xlabel() == "radius (epsilon that networks were asked to withstand)"
    metadata = read_metadata(out / "sample-0000.safetensors")
    assert (metadata["radius"], metadata["epsilon"]) == (0.05, 0.2) and "beta" not in metadata
    with torch.no_grad():
        z = torch.tensor([metadata["z"]])
        theta = sampler.models.ema(z, torch.tensor([0.25]))
    again = of_radii.sample(2, radius=0.05, seed=1).theta
    assert any(torch.allclose(theta[0], each, atol=1e-6) for each in again)
    making = made_by(out / "sample-0000.safetensors")
    assert making is not None and making.recipe.endswith("; radius 0.05")
    assert "--epsilon 0.05:0.2 " in making_line(making)
    assert "--radius 0.05:0.2:3" in making_line(making)


def test_what_a_run_of_radii_is_not_asked(of_radii, ranged_run):
    with pytest.raises(InputError, match=r"trained for `radius` in \[0.05, 0.2\], not 0.3"):
        of_radii.sample(1, radius=0.3)
    with pytest.raises(InputError, match="trained for a range of epsilon: use `radius`"):
        of_radii.sample(1, beta=0.5)
    with pytest.raises(InputError, match="`prefer` is for generators"):
        of_radii.sample(1, prefer={"accuracy": 1})
    with pytest.raises(InputError, match="`radius` is for generators"):
        ranged_run.sample(1, radius=0.05)
    with pytest.raises(InputError, match="`beta` and `radius`: only one of them can be asked"):
        ranged_run.sample(1, beta=0.5, radius=0.05)
    with pytest.raises(InputError, match="`beta` and `radius`: only one of them can be asked"):
        SampleConfig(1, beta="0.5", radius="0.1")
    with pytest.raises(InputError, match="leave out `radius`"):
        SampleConfig(1, radius="0.1", accuracy_at_least=0.5)


def test_accuracy_at_least_chooses_a_radius(of_radii, few, tmp_path):
    config = SampleConfig(2, accuracy_at_least=0.0)
    found = draw_samples(of_radii.sampler, few, tmp_path / "out", config)
    assert [row["radius"] for row in found["networks"]] == [0.2, 0.2]


def test_the_report_shows_the_front_over_the_radius(of_radii):
    result = json.loads((of_radii.folder / "results.json").read_text())
    samples = [row for row in result["networks"] if row["kind"] == "sample"]
    assert len({row["radius"] for row in samples}) == 3
    assert all(0.05 <= row["radius"] <= 0.2 for row in samples)
    assert len(result["front_growth"]["values"]) >= 2
    front, over, growth = trade_off_blocks(result, {})
    assert front.traces[0]["marker"]["color"] == [row["radius"] for row in samples]
    assert over.traces[0]["x"] == sorted(row["radius"] for row in samples)
    assert "radius" in over.layout["xaxis"]["title"]["text"]
    assert growth.caption.startswith("How the front grew")


def test_the_explorer_has_a_slider_and_a_search_its_radius(of_radii, few, tmp_path):
    explorer = Explorer(of_radii.folder, few)
    assert explorer.sliders() == [Slider("radius", 0.05, 0.2, 0.125)]
    assert explorer.preference({"radius": 0.1}) == pytest.approx(0.5)
    config = SearchConfig(budget=2, candidates=6, keep=1, images=8, method="random")
    found = search(of_radii.sampler, few, tmp_path / "found", config)
    assert all(0.05 <= row["radius"] <= 0.2 for row in found["measured"])


def test_the_settings_of_a_range_are_kept(of_radii, tiny):
    settings = RunSettings.load(of_radii.folder)
    assert settings.config == tiny.replace(epsilon=(0.05, 0.2), steps=8, max_robustness_gap=0.9)
    tree = json.loads((of_radii.folder / "config.json").read_text())
    assert tree["config"]["adversary"]["epsilon"] == [0.05, 0.2]
