"""Small networks that can be seen whole."""

import pytest
import torch

from hypergen.analysis.one_dimensional import knots
from scripts.studies import geometry_examples
from scripts.studies.geometry_examples import StudyConfig, cubic, six_relus


def test_six_relus_have_their_six_knots_and_are_close_to_the_cubic():
    """Each bends where its own weight * x + bias is 0."""
    exact = sorted([-7.7 / 5, -1.3 / 1.2, -1 / 1.2, 0.2 / 1.2, 1.1 / 2, 5 / 5])
    assert knots(six_relus(), -10, 10).tolist() == pytest.approx(exact, rel=1e-12)
    x = torch.linspace(-1.5, 1.5, 101, dtype=torch.float64)
    found = six_relus()(x.view(-1, 1, 1, 1))[:, 0].detach()
    assert (found - cubic(x)).abs().max() < 0.4


def test_the_study(tmp_path, written):
    config = StudyConfig(networks=3, out=tmp_path / "figures.json")
    geometry_examples.main(config)
    figures = written(config.out)
    assert len(figures["cubic"]["knots"]) == 6 and figures["cubic"]["error"] < 0.4
    for row in figures["networks"].values():
        assert len(row["knots"]) == 3 and 0 < max(row["knots"]) <= row["bound"]
    assert config.out.with_suffix(".png").stat().st_size > 10_000
