"""The study of networks between two others."""

from dataclasses import replace

import pytest
import torch

import targets
from hypergen.errors import InputError
from hypergen.storage.weights import load_network
from scripts.studies import soups


def test_what_was_generated_beside_what_was_mixed(brief, brief_pretraining, tmp_path, written):
    base = tmp_path / "base.pt"
    torch.save(targets.build("mlp", input_shape=(1, 8, 8)).state_dict(), base)
    config = replace(
        soups.QUICK,
        train=soups.QUICK.train.replace(steps=2, population=2, batch_size=8, base=str(base)),
        betas=(0.0, 0.4, 1.0),
        beta=0.4,
        images=4,
        work=tmp_path / "work",
        out=tmp_path / "soups.json",
    )
    soups.main(config)
    figures = written(config.out)
    ways = soups.GENERATED, soups.OF_BETAS, soups.OF_Z, soups.OF_NORMS
    generated, of_betas, of_z, of_norms = (figures["rows"][way] for way in ways)
    assert [row["share"] for row in of_betas] == [0, 0.4, 1]
    for end in (0, -1):
        assert of_betas[end]["networks"] == generated[end]["networks"]
    assert [len(row["networks"]) for row in of_z] == [1, 1, 1]
    assert [row["disagreement"] for row in of_z] == [None] * 3
    first = [{"accuracy": n["accuracy"], "linf": n["linf"]} for n in of_norms[0]["networks"]]
    assert first == generated[1]["networks"]
    for network in of_norms[1]["networks"]:
        assert list(network) == ["accuracy", "linf", "l2", "union"]
        assert network["union"] <= min(network["linf"], network["l2"])
    one, other = (load_network(config.work / n / "base.safetensors") for n in ("linf", "l2"))
    for name, tensor in one.state_dict().items():
        assert tensor.equal(other.state_dict()[name])
    masks = config.work / "soups.masks.jsonl"
    before = masks.read_bytes()
    soups.main(config)
    assert written(config.out) == figures and masks.read_bytes() == before


def row(*networks, **at):
    """A row of networks, by their accuracy, SRA in linf and, where it is said, in l2 and union."""
    names = "accuracy", "linf", "l2", "union"
    return {**at, "networks": [dict(zip(names, each, strict=False)) for each in networks]}


def test_the_summary_of_known_figures():
    high, low = [(1.0, 0.2), (0.8, 0.2)], [(0.55, 0.6), (0.55, 0.6)]
    found = {
        soups.GENERATED: [row(*high, beta=0), row(*low, beta=1)],
        soups.OF_BETAS: [
            row(*high, share=0),
            row((0.7, 0.4), (0.7, 0.5), share=0.5),
            row(*low, share=1),
        ],
        soups.OF_Z: [row((0.85, 0.1), beta=0, share=0.5), row((0.55, 0.6), beta=1, share=0.5)],
        soups.OF_NORMS: [
            row((0.9, 0.6, 0.2, 0.2), share=0),
            row((0.85, 0.4, 0.4, 0.35), share=0.5),
            row((0.8, 0.2, 0.6, 0.2), share=1),
        ],
    }
    reached = soups.summary(found, num_classes=10)
    volumes = {way: each["hypervolume"] for way, each in reached.items()}
    assert volumes == {
        soups.GENERATED: pytest.approx((0.8 * 0.2 + 0.45 * 0.4) / 0.9),
        "its two ends": pytest.approx((0.8 * 0.2 + 0.45 * 0.4) / 0.9),
        soups.OF_BETAS: pytest.approx((0.8 * 0.2 + 0.6 * 0.25 + 0.45 * 0.15) / 0.9),
        soups.OF_Z: pytest.approx((0.75 * 0.1 + 0.45 * 0.5) / 0.9),
        # In three slices of l2: below 0.2, below 0.4 and below 0.6.
        soups.OF_NORMS: pytest.approx(0.2 * (0.8 * 0.6 + 0.75 * 0.4 + 0.7 * 0.2) / 0.9),
        "their two ends": pytest.approx(0.2 * (0.8 * 0.6 + 0.7 * 0.2 + 0.7 * 0.2) / 0.9),
    }
    lost = {way: each["barrier"] for way, each in reached.items() if "barrier" in each}
    assert lost == {
        soups.OF_BETAS: pytest.approx({"accuracy": 0.075, "linf": 0}),  # of the first network
        soups.OF_Z: pytest.approx({"accuracy": 0.05, "linf": 0.1}),  # at the first beta
        soups.OF_NORMS: pytest.approx({"accuracy": 0, "linf": 0, "l2": 0, "union": 0}),
    }


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train": soups.QUICK.train.replace(beta="0.5")}, "must be a range"),
        ({"train": soups.QUICK.train.replace(beta="0:0.8")}, r"must lie in \[0, 0.8\]"),
        ({"beta": 2.0}, r"must lie in \[0, 1\]"),
        ({"betas": (1.0, 0.0)}, "the lowest first"),
        ({"betas": (0.5,)}, "two or more"),
        ({"shares": (0.0, 0.5)}, "0 and 1 among them"),
        ({"samples": 1}, "at least 2, got 1"),
        ({"other": "linf=0.1"}, "not that of --train"),
    ],
)
def test_what_cannot_be_mixed_is_told_before_long_work(wrong, message, tmp_path):
    config = replace(soups.QUICK, **wrong, work=tmp_path / "work")
    with pytest.raises(InputError, match=message):
        soups.main(config)
    assert not config.work.exists()
