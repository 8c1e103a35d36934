"""The comparison with other implementations, on one small network."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hypergen import data
from hypergen.errors import InputError
from hypergen.experiments.baseline import save_baseline
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from scripts.compare import autoattack


def trained(recipe, dataset):
    """The network of a direct training."""
    return train_direct(DirectTrainer(recipe, dataset, torch.device("cpu")))


class StubAutoAttack:
    """Breaks the first half of the images, and says so as the original does."""

    def __init__(self, model, **options):
        self.model, self.log_path = model, options["log_path"]

    def run_standard_evaluation(self, images, labels):
        self.log_path.write_text("robust accuracy after APGD-CE: 40.00% (total time 1.0 s)\n")
        return torch.cat([torch.zeros_like(images[:10]), images[10:]])


def test_all_implementations(brief, tmp_path, monkeypatch, written):
    monkeypatch.setitem(sys.modules, "autoattack", SimpleNamespace(AutoAttack=StubAutoAttack))
    recipe = BaselineConfig.of(method="fbf", target="mlp", epochs=8)
    digits = data.load("digits")
    module = trained(recipe, digits)
    file = tmp_path / "mine.safetensors"
    save_baseline(file, module, recipe, digits)
    config = autoattack.CompareConfig(
        files=(file,),
        autoattack=tmp_path,
        images=20,
        steps=3,
        restarts=2,
        work=tmp_path / "work",
        out=tmp_path / "compare.json",
    )
    autoattack.main(config)
    row = written(config.out)["networks"]["mine"]
    cells = {}
    for way in row["robust"]:
        (path,) = config.work.glob(f"mine-*-{way}.json")
        cells[way] = json.loads(path.read_text())["left"]
    assert set(cells) == set(autoattack.IMPLEMENTATIONS)
    # The three make the same points of the same starts; here any of them counts, there the last.
    assert cells["foolbox"] == cells["torchattacks"] and set(cells["PGD"]) <= set(cells["foolbox"])
    assert 0 < row["robust"]["PGD"] < row["clean"] <= 1
    images, labels = digits.test.first(20)
    blank = int(module(torch.zeros_like(images[:1])).argmax())
    clean = module(images).argmax(1) == labels
    clean[:10] = labels[:10] == blank
    assert cells["AutoAttack"] == clean.nonzero().flatten().tolist()
    assert row["after"]["AutoAttack"] == {"apgd-ce": 0.4}
    # A second call computes nothing anew.
    monkeypatch.setattr(autoattack, "timed", None)
    autoattack.main(config)
    # And never takes another network of that name for this one.
    save_baseline(file, trained(recipe.replace(epochs=1), digits), recipe, digits)
    with pytest.raises(TypeError):
        autoattack.main(config)
    # Nor figures at another radius for those at this one.
    subject = autoattack.subjects(config)["mine"]
    files = [
        autoattack.cells_of("mine", replace(subject, epsilon=epsilon), ["PGD"], tmp_path)
        for epsilon in (0.1, 0.1, 0.3)
    ]
    assert files[0] == files[1] != files[2]
    with pytest.raises(InputError, match="no networks"):
        autoattack.main(replace(config, files=()))
    with pytest.raises(InputError, match="two networks"):
        autoattack.main(replace(config, files=(file, file)))
    save_baseline(file, module, recipe.replace(norm="l2", epsilon=1.5), digits)
    with pytest.raises(InputError, match="made for l2"):
        autoattack.main(config)


def test_differences_of_two_implementations():
    cells = {"standard": {"left": [0, 1, 2]}, "AutoAttack": {"left": [1, 2, 3, 4, 5]}}
    found = autoattack.compared(cells, 500)
    assert found == {
        "standard - AutoAttack": {"points": -0.4, "only_here": 3, "only_there": 1, "within": True}
    }
    assert not autoattack.compared(cells, 499)["standard - AutoAttack"]["within"]
