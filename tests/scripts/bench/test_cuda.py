"""The check of a GPU against a CPU, here mostly of a CPU against itself."""

from pathlib import Path

import pytest
import torch

from hypergen.errors import RunError
from hypergen.training.trainer import Trainer
from scripts.bench import cuda


def check_config(folder: Path) -> cuda.CheckConfig:
    return cuda.CheckConfig(
        dataset="digits",
        epochs=1,
        target="mlp",
        normed_dataset="digits",
        normed_target="light-cnn",
        normed_images=128,
        steps=2,
        images=20,
        work=folder / "runs",
        out=folder / "figures.json",
    )


@pytest.mark.slow
def test_all_checks(tmp_path, written):
    config = check_config(tmp_path)
    cuda.main(config)
    figures = written(config.out)
    if not torch.cuda.is_available():  # the same machine twice
        assert figures["fbf"]["cpu"] == figures["fbf"]["device"]
        assert figures["normed"]["cpu"] == figures["normed"]["device"]
        assert figures["generated"]["logits_apart"] == figures["resumed"]["weights_apart"] == 0
        assert figures["recorded"]["generator"]["losses_apart"] == 0
    checks = ("fbf", "normed", "generated", "resumed", "recorded")
    assert all(figures[check]["within"] for check in checks)


@pytest.mark.slow
def test_a_run_that_forgets_its_state_is_noticed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Trainer, "load_state_dict", lambda trainer, state: None)
    config = check_config(tmp_path)
    with pytest.raises(RunError, match="not as on the CPU: resumed"):
        cuda.main(config)
    assert config.out.exists()
    printed = capsys.readouterr().out
    assert "resumed: MISSED" in printed and printed.count("within the bar") == 4
