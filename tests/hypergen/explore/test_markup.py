"""What the page says of networks."""

import re
from types import SimpleNamespace

import torch

from hypergen.explore.markup import bars, estimates, measured


def shown(markup: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", markup).split())


def test_every_class_has_its_bar_and_the_true_one_is_marked():
    text = bars(torch.tensor([0.25, 0.75]), ["cat", "dog"], 0)
    assert shown(text) == "cat (true) 25 % dog 75 %"
    assert "width:75.0%" in text and text.count("best") == 1
    assert "(true)" not in bars(torch.tensor([0.25, 0.75]), ["cat", "dog"], None)


def test_of_many_classes_the_likeliest_are_shown():
    names = [f"c{index}" for index in range(100)]
    probabilities = torch.linspace(0, 1, 100) / 50
    assert re.findall(r"c\d+", shown(bars(probabilities, names, 3))) == [
        "c99",
        "c98",
        "c97",
        "c96",
        "c95",
    ]


def test_names_of_a_user_are_no_markup():
    evil = "<script>alert(1)</script>"
    assert "<script" not in bars(torch.tensor([0.5, 0.5]), [evil, '"><img src=x>'], 0)
    assert "<img" not in bars(torch.tensor([0.5, 0.5]), [evil, '"><img src=x>'], 0)


def test_estimates_stand_with_how_far_off_they_may_be():
    chosen = SimpleNamespace(estimates=torch.tensor([0.9, 0.5]), spread=torch.tensor([0.01, 0.02]))
    network = SimpleNamespace(members=1)
    config = SimpleNamespace(value_network=network)
    explorer = SimpleNamespace(
        measures=["accuracy", "<b>"],
        errors={"accuracy": 0.03},
        sampler=SimpleNamespace(config=config),
    )
    text = estimates(chosen, explorer)  # pyright: ignore[reportArgumentType]
    assert shown(text) == "accuracy 90.0 % ± 3.0 &lt;b&gt; 50.0 % error not known"
    network.members = 3
    text = estimates(chosen, explorer)  # pyright: ignore[reportArgumentType]
    assert "± 3.0, members ± 1.0" in shown(text) and "not known, members ± 2.0" in shown(text)


def test_measured_figures_stand_with_their_intervals():
    figures = {"accuracy": 0.9, "sra": 0.5, "mine": 0.2, "attack": {}}
    figures["intervals"] = {"accuracy": [0.8, 0.95], "sra": [0.25, 0.75]}
    assert shown(measured(figures)) == (
        "accuracy 90.0 % 80.0 to 95.0 % robust accuracy (SRA) 50.0 % 25.0 to 75.0 % mine 20.0 %"
    )
    assert "left:25.0%;width:50.0%" in measured(figures)
