import math
import re

import numpy
import pytest
import torch
from scipy.stats import ttest_ind

from hypergen.evaluation.statistics import paired_error
from hypergen.report.verdict import differences, networks_error, verdict


def rows(accuracy: float, robustness: float, count: int = 4, sra: bool = True) -> list[dict]:
    """Networks around these figures."""
    return [
        {
            "accuracy": accuracy + 0.001 * (i % 2),
            "pgd": robustness + 0.01,
            **(
                {"sra": robustness + 0.001 * (i % 2), "pgd_on_sra_images": robustness}
                if sra
                else {}
            ),
        }
        for i in range(count)
    ]


# The interval


@pytest.mark.parametrize("sizes", [(4, 3), (32, 3), (2, 2)])
def test_the_part_of_the_networks_is_welchs(sizes):
    rng = numpy.random.default_rng(0)
    mine, theirs = (rng.normal(0.7, 0.01 * (1 + i), n).tolist() for i, n in enumerate(sizes))
    low, high = ttest_ind(mine, theirs, equal_var=False).confidence_interval(0.95)
    assert networks_error(mine, theirs) == pytest.approx((high - low) / 2)
    assert networks_error(theirs, mine) == pytest.approx(networks_error(mine, theirs))


def test_a_network_alone_is_taken_to_vary_as_the_others_do():
    """Which is Student's interval of equal variances."""
    mine, theirs = [0.7, 0.72, 0.69, 0.75], [0.6]
    low, high = ttest_ind(mine, theirs, equal_var=True).confidence_interval(0.95)
    assert networks_error(mine, theirs) == pytest.approx((high - low) / 2)
    assert networks_error(theirs, mine) == pytest.approx((high - low) / 2)
    assert networks_error([0.7], [0.6]) == 0 == networks_error([0.5, 0.5], [0.5, 0.5])


def test_the_interval_holds_the_true_difference_as_often_as_it_says(make_result):
    """Images and networks drawn anew: some images are hard for all, some networks good at all."""
    rng, images, rounds = numpy.random.default_rng(0), 100, 400
    kinds = {"sample": (1.5, 4), "fbf": (0.8, 3)}

    def right(level: float, count: int, hardness: numpy.ndarray) -> numpy.ndarray:
        skill = level + rng.normal(0, 0.2, (count, 1))
        return rng.random((count, len(hardness))) < 1 / (1 + numpy.exp(hardness - skill))

    many = rng.normal(0, 2, 200)
    means = [right(level, 2000, many).mean() for level, _ in kinds.values()]
    held = 0
    for _ in range(rounds):
        hardness = rng.choice(many, images)
        found = {kind: right(*kinds[kind], hardness) for kind in kinds}
        apart = torch.tensor(found["sample"].mean(0) - found["fbf"].mean(0))
        groups = {
            kind: [{"accuracy": 0.9, "pgd": 0.5, "sra": float(each)} for each in masks.mean(1)]
            for kind, masks in found.items()
        }
        _, sra = differences(make_result(groups, image_error=paired_error(apart)), "fbf")
        held += sra.low <= means[0] - means[1] <= sra.high
    assert held / rounds >= 0.95 - 2 * math.sqrt(0.95 * 0.05 / rounds)


def test_the_difference_is_that_of_the_means(run_result):
    accuracy, sra = differences(run_result, "fbf")
    means = {kind: run_result["summary"][kind]["sra"]["mean"] for kind in ("sample", "fbf")}
    assert sra.mean == pytest.approx(means["sample"] - means["fbf"])
    assert sra.low < sra.mean < sra.high and accuracy.low < accuracy.mean < accuracy.high
    expected = f"SRA ({100 * sra.mean:+.1f} points, 95 % interval {100 * sra.low:+.1f} to "
    assert f"{expected}{100 * sra.high:+.1f})" == str(sra) and str(sra) in verdict(run_result)


# What is said


@pytest.mark.parametrize(
    ("accuracy", "sra", "said", "advice"),
    [
        (0.95, 0.8, "are better in accuracy and SRA.", ""),
        (0.95, 0.7, "are better in accuracy and show no difference beyond chance in SRA.", ""),
        (0.9, 0.8, "are better in SRA and show no difference beyond chance in accuracy.", ""),
        (
            0.8,
            0.8,
            "are better in SRA and are worse in accuracy.",
            " That is a trade-off: lower `beta` for more accuracy.",
        ),
        (
            0.95,
            0.6,
            "are better in accuracy and are worse in SRA.",
            " That is a trade-off: raise `beta` for more SRA.",
        ),
        (
            0.8,
            0.7,
            "are worse in accuracy and show no difference beyond chance in SRA.",
            " For more accuracy lower `beta`, or raise `steps`.",
        ),
        (
            0.9,
            0.6,
            "are worse in SRA and show no difference beyond chance in accuracy.",
            " For more SRA raise `beta`, or raise `steps`.",
        ),
        (
            0.8,
            0.6,
            "are worse in accuracy and SRA.",
            " Worse in both is no trade-off: they are undertrained, raise `steps`.",
        ),
        (
            0.9,
            0.7,
            "show no difference beyond chance in accuracy and SRA.",
            " More `sra_images` and `sra_samples` would tell smaller differences in SRA.",
        ),
    ],
)
def test_samples_are_compared_with_fbf(make_result, accuracy, sra, said, advice):
    groups = {"sample": rows(accuracy, sra), "start": rows(0.1, 0.0, 1), "fbf": rows(0.9, 0.7, 3)}
    text = verdict(make_result(groups, image_error=0.0))
    without_intervals = re.sub(r" \([^)]*\)", "", text)
    assert without_intervals == f"Compared with FBF, samples {said}{advice}"


def test_a_difference_that_so_few_images_leave_open_is_none(make_result):
    groups = {"sample": rows(0.9, 0.75), "start": rows(0.1, 0.0, 1), "fbf": rows(0.9, 0.7, 3)}
    assert "no difference" in verdict(make_result(groups, image_error=0.03))
    assert "better in SRA" in verdict(make_result(groups, image_error=0.003))


def test_without_fbf_samples_are_compared_with_pgd_training(make_result):
    groups = {"sample": rows(0.9, 0.8), "start": rows(0.1, 0.0, 1), "pgd": rows(0.9, 0.7, 1)}
    text = verdict(make_result(groups, image_error=0.0))
    assert text.startswith("Compared with PGD training, samples are better in SRA")


@pytest.mark.parametrize(
    ("sra", "said"),
    [
        (
            0.6,
            "are better in accuracy and are worse in SRA. "
            "That is a trade-off: raise `attack_steps` for more SRA.",
        ),
        (0.9, "are better in accuracy and SRA."),
    ],
)
def test_for_robustness_alone_samples_are_compared_with_pgd_training(make_result, sra, said):
    groups = {"sample": rows(0.95, sra), "fbf": rows(0.8, 0.1, 3), "pgd": rows(0.9, 0.8, 1)}
    text = verdict(make_result(groups, image_error=0.0) | {"for_robustness": True})
    without_intervals = re.sub(r" \([^)]*\)", "", text)
    assert without_intervals == f"Compared with PGD training, samples {said}"


@pytest.mark.parametrize("trained", [True, False])
def test_without_baselines_samples_are_compared_with_their_start(make_result, trained):
    groups = {"sample": rows(0.9, 0.8) if trained else rows(0.1, 0.0), "start": rows(0.1, 0.0, 1)}
    text = verdict(make_result(groups))
    assert text.startswith("No baselines: compared with the network that training started from, ")
    assert ("undertrained: raise `steps`" in text) != trained
    assert ("are better in accuracy" in text) == trained


def test_without_sra_samples_are_compared_by_pgd_which_flatters(make_result):
    groups = {"sample": rows(0.95, 0.8, sra=False), "fbf": rows(0.9, 0.5, 3, sra=False)}
    text = verdict(make_result(groups))
    assert "PGD-50 (+30.0 points" in text and "SRA" not in text
    assert text.endswith("set `sra_samples` above 0 for standard robust accuracy.")


def test_measures_that_the_value_network_puts_far_too_high_are_told(make_result):
    groups = {"sample": rows(0.95, 0.8), "start": rows(0.1, 0.0, 1), "fbf": rows(0.9, 0.7, 3)}
    result, known = make_result(groups), {"accuracy": -0.3, "robustness": 0.09, "int8": 0.234}
    result["value_network"] = {name: {"overestimate": each} for name, each in known.items()}
    assert "value network" not in verdict(result | {"objective": "direct"})
    text = verdict(result)
    assert "The value network puts int8 of the samples 23.4 points too high: " in text
    assert text.count("value network") == 1
    assert text.endswith("check/int8/gap in metrics.jsonl says, where the run was checked.")


@pytest.mark.parametrize(
    ("accuracy", "sra", "advice"),
    [
        (
            0.8,
            0.8,
            " That is a trade-off: raise the weight of `measure` accuracy for more accuracy.",
        ),
        (0.9, 0.6, " For more SRA raise the weight of `measure` robustness, or raise `steps`."),
    ],
)
def test_beta_is_not_advised_where_other_measures_were_named(make_result, accuracy, sra, advice):
    groups = {"sample": rows(accuracy, sra), "start": rows(0.1, 0.0, 1), "fbf": rows(0.9, 0.7, 3)}
    result = make_result(groups, image_error=0.0)
    text = verdict(result | {"measures": ["accuracy", "robustness", "int8"]})
    assert text.endswith(advice) and "beta" not in text


def test_competitors_that_only_guess_are_no_competition(make_result):
    groups = {"sample": rows(0.95, 0.8), "start": rows(0.1, 0.0, 1), "fbf": rows(0.19, 0.1, 3)}
    text = verdict(make_result(groups))
    assert "better in accuracy" in text
    assert "But FBF has hardly learned more than to guess, so that says little; train" in text
    known = make_result(groups | {"fbf": rows(0.25, 0.1, 3)})
    assert "guess" not in verdict(known) and "guess" in verdict(known | {"num_classes": 4})


def test_samples_that_only_guess_are_undertrained_whatever_else_holds(make_result):
    groups = {"sample": rows(0.12, 0.1), "start": rows(0.1, 0.0, 1), "fbf": rows(0.12, 0.1, 3)}
    text = verdict(make_result(groups))
    assert "no difference beyond chance in accuracy" in text and text.endswith(
        "undertrained: raise `steps`."
    )
