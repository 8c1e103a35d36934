"""The search for a reading of the published protocol."""

from dataclasses import asdict, replace

import pytest
import torch

from hypergen import data
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from scripts.studies import thesis, thesis_protocol
from scripts.studies.thesis_protocol import CHOICES, Length, Reading, Subject, pgd, samples
from targets import WeightLayout

READING = Reading(**{name: choices[0] for name, choices in CHOICES.items()})
BRIEF = replace(READING, generator_pretraining=1, value_pretraining=1)


@pytest.fixture(scope="module")
def subject() -> Subject:
    digits = data.load("digits", image_size=8)
    recipe = BaselineConfig.of(
        method="standard", dataset="digits", image_size=8, target="mlp", epochs=2
    )
    trainer = DirectTrainer(recipe, digits, torch.device("cpu"))
    return Subject(train_direct(trainer).eval(), digits)


def test_both_ways_of_counting_robust_images(subject):
    """By the module itself, image by image."""
    images, labels = subject.dataset.val.first(60)
    attack = pgd(0.05, 3)
    found = subject.measured(subject.weights[None], attack, images, labels)
    with torch.no_grad():
        right = subject.start(images).argmax(-1) == labels
    result = attack(lambda x: subject.start(x[0])[None], images[None], labels[None], [0])
    robust = result.robust_mask[0]
    assert 0 < robust.sum() < right.sum()  # or the two could not differ
    assert found["accuracy"].item() == right.double().mean()
    assert found["right"].item() == robust.double().mean()
    assert found["unbroken"].item() == pytest.approx(1 - (right & ~robust).double().mean().item())


OTHERS = {name: choices[-1] for name, choices in CHOICES.items()}
OTHERS |= {"generator_pretraining": 2, "value_pretraining": 3}


@pytest.mark.parametrize("name", OTHERS)
def test_every_choice_changes_the_samples(name, subject):
    length = Length(steps=4, images=60)
    first, steps = samples(subject, BRIEF, 0.1, length, 0)
    layout = WeightLayout.of(subject.start)
    assert first.shape == (thesis_protocol.SAMPLES, layout.size) and steps == 4
    assert torch.equal(samples(subject, BRIEF, 0.1, length, 0)[0], first)
    assert not torch.equal(
        samples(subject, replace(BRIEF, **{name: OTHERS[name]}), 0.1, length, 0)[0], first
    )


def test_a_constant_classifier_is_ended(subject, monkeypatch):
    monkeypatch.setattr(thesis_protocol, "CONSTANT", (1.1, 2))
    assert samples(subject, BRIEF, 0.1, Length(steps=9, images=8), 0)[1] == 2


def test_what_is_nearest_comes_first_and_is_trained_again(tmp_path, written):
    config = replace(thesis.QUICK, work=tmp_path / "work", out=tmp_path / "thesis.json")
    thesis.main(config)
    found = written(config.out)
    values = [trial["nearness"] for trial in found["trials"]]
    assert len(values) == config.trials and values == sorted(values, reverse=True)
    (row,) = found["nearest"]
    best = found["trials"][0]
    assert row["reading"] == {name: best[name] for name in asdict(READING)}
    rows = row["seeds"][0]["samples"]
    assert len(rows) == thesis_protocol.SAMPLES
    near = [min(each["accuracy"] / 0.80, each["right"] / 0.65) for each in rows]
    assert near == sorted(near, reverse=True)
    thesis.main(config)  # from what was kept
    assert written(config.out) == found
