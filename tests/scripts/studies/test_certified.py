"""The study of what is certified beside what is attacked."""

from dataclasses import replace

import pytest
import torch

from hypergen.errors import RunError
from scripts.studies import certified


@pytest.fixture
def config(tmp_path, brief):
    train = certified.QUICK.train.replace(steps=2, population=2, batch_size=8)
    places = {"work": tmp_path / "work", "out": tmp_path / "certified.json"}
    return replace(
        certified.QUICK,
        train=train.replace(max_robustness_gap=1.0),
        epochs=1,
        samples=2,
        images=10,
        attack="standard",
        **places,
    )


@pytest.mark.slow  # 32 networks
def test_all_kinds_of_networks(config, written):
    certified.main(config)
    found = written(config.out)["kinds"]
    assert list(found) == list(certified.KINDS)
    counts = {kind: len(own["networks"]) for kind, own in found.items()}
    assert counts.pop("untrained") == len(certified.ACTIVATIONS)
    assert {counts[kind] for kind in certified.DIRECT} == {len(certified.ACTIVATIONS)}
    assert {counts[kind] for kind in (*certified.GENERATED, certified.ENSEMBLE)} == {2}
    for own in found.values():
        for cells in own["networks"]:
            assert [cell["epsilon"] for cell in cells] == list(config.epsilons)
            for cell in cells:
                assert 0 <= cell["ibp"] <= cell["crown-ibp"] <= cell["robust"] <= 1
                assert cell["certified_but_broken"] == 0
    lines = str(certified.table(found, "standard")).splitlines()
    assert len(lines) == 1 + len(certified.KINDS) * len(config.epsilons) + 1


def test_a_certificate_that_does_not_hold_is_told(config, monkeypatch, capsys):
    def all_images(population, images, *rest):
        return torch.ones(len(population), len(images), dtype=torch.bool)

    monkeypatch.setattr(certified, "certified", all_images)
    with pytest.raises(RunError, match="attacks break what is certified: untrained"):
        certified.main(replace(config, only=("untrained",)))
    assert config.out.exists()
