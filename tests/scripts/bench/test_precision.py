"""The benchmark of few bits."""

import statistics

from hypergen.runtime import precision as bits
from scripts.bench import precision


def test_times_and_losses_of_both(tmp_path, written, monkeypatch):
    monkeypatch.setattr(bits, "cpu_has_bf16", lambda: True)
    config = precision.BenchConfig(
        dataset="digits",
        targets=("mlp relu",),
        curves=("fbf-cnn relu",),
        turns=1,
        curve_steps=4,
        curve_seeds=2,
        out=tmp_path / "precision.json",
    )
    precision.main(config)
    found = written(config.out)
    times = found["milliseconds"]["mlp relu"]
    assert len(times) == 5 and min(times.values()) > 0
    losses = found["last_losses"]["fbf-cnn relu"]
    assert losses["float32"] != losses["bf16"]
    means = [statistics.mean(each) for each in losses.values()]
    assert abs(means[0] - means[1]) < 0.05 * means[0]
