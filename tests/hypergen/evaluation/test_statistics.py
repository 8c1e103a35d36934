import statistics

import numpy
import pytest
import torch

from hypergen.evaluation.statistics import (
    agreement,
    kendall_tau,
    measuring_error,
    paired_error,
    ranking_error,
    summarise,
)
from hypergen.report.intervals import interval

ROWS = [{"accuracy": a, "robustness": r} for a, r in ((0.6, 0.5), (0.8, 0.5), (1.0, 0.5))]
NAMES = "accuracy", "robustness"
SPREAD = (0.08 / 3) ** 0.5


def test_agreement_is_mean_error_r2_and_tau():
    estimates = torch.tensor([[0.7, 0.4], [0.6, 0.5], [1.0, 0.7]])
    found = agreement(NAMES, estimates, ROWS)
    # Squared errors 0.01 + 0.04 + 0 of 0.08 around the mean; two of three pairs in order.
    assert found["accuracy"] == pytest.approx(
        {
            "mean_error": 0.1,
            "overestimate": -0.1 / 3,
            "r2": 1 - 0.05 / 0.08,
            "kendall_tau": 1 / 3,
            "spread": SPREAD,
        }
    )
    assert found["robustness"] == {
        "mean_error": pytest.approx(0.1),
        "overestimate": pytest.approx(0.1 / 3),
        "r2": None,
        "kendall_tau": None,
        "spread": 0,
    }


def test_estimates_that_are_right_agree_perfectly():
    estimates = torch.tensor([[row["accuracy"], row["robustness"]] for row in ROWS])
    assert agreement(NAMES, estimates, ROWS)["accuracy"] == pytest.approx(
        {"mean_error": 0, "overestimate": 0, "r2": 1, "kendall_tau": 1, "spread": SPREAD}
    )


def test_one_network_has_no_order():
    assert agreement(NAMES, torch.tensor([[0.5, 0.5]]), ROWS[:1])["accuracy"] == {
        "mean_error": pytest.approx(0.1),
        "overestimate": pytest.approx(-0.1),
        "r2": None,
        "kendall_tau": None,
        "spread": 0,
    }


def test_kendalls_tau_counts_pairs_in_order():
    assert kendall_tau([1, 2, 3], [1, 3, 2]) == pytest.approx(1 / 3)
    assert kendall_tau([3, 2, 1], [1, 2, 3]) == pytest.approx(-1)
    assert kendall_tau([1, 1], [1, 2]) is None and kendall_tau([1], [1]) is None


@pytest.mark.parametrize(("count", "images"), [(0, 20), (7, 20), (20, 20), (813, 1000)])
def test_the_interval_is_wilsons(count, images):
    """By the formula (Wilson 1927), z = 1.96."""
    share, z = count / images, 1.959964
    middle = (share + z**2 / (2 * images)) / (1 + z**2 / images)
    half = (share * (1 - share) / images + z**2 / (4 * images**2)) ** 0.5 * z
    half /= 1 + z**2 / images
    assert interval(share, images) == pytest.approx([middle - half, middle + half], abs=1e-6)


def test_the_measuring_error_is_how_far_shares_found_anew_scatter():
    rng, images = numpy.random.default_rng(0), 50
    shares = [0.9, 0.6, 1.0]
    drawn = rng.binomial(images, shares, (20_000, 3)) / images
    scatter = float(numpy.sqrt(numpy.mean((drawn - shares) ** 2)))
    assert measuring_error(shares, images) == pytest.approx(scatter, rel=0.02)
    assert measuring_error([0.0, 1.0], 1) == 0


def test_the_ranking_error_is_how_far_equal_networks_scatter_on_the_same_images():
    """Networks that are all right with the same chance, which differs widely between images."""
    rng, networks, images = numpy.random.default_rng(0), 5, 40
    found, scatter = [], []
    for _ in range(2000):
        chance = rng.beta(0.3, 0.3, images)
        masks = rng.random((networks, images)) < chance
        found.append(ranking_error(torch.from_numpy(masks)) ** 2)
        scatter.append(masks.mean(1).var(ddof=1))
    assert numpy.mean(found) == pytest.approx(numpy.mean(scatter), rel=0.05)
    assert numpy.mean(found) ** 0.5 < 0.7 * measuring_error([0.5], images)
    alike = torch.tensor([[True, False, True]] * 3)
    assert ranking_error(alike) == pytest.approx(0, abs=1e-7)
    assert ranking_error(alike[:, :1]) == 0.5


def test_a_summary_is_of_the_rows_that_have_a_figure():
    values = [0.2, 0.9, 0.4, 0.7]
    rows = [{"accuracy": value, "file": "x"} for value in values]
    rows[1]["sra"] = 0.5
    summary = summarise(rows)
    assert summary.keys() == {"count", "accuracy", "sra"} and summary["count"] == 4
    found = summary["accuracy"]
    assert found["mean"] == pytest.approx(statistics.fmean(values))
    assert found["std"] == pytest.approx(statistics.pstdev(values))
    assert (found["min"], found["max"], found["count"]) == (0.2, 0.9, 4)
    assert found["quantiles"][2] == pytest.approx(statistics.median(values))
    assert found["quantiles"] == sorted(found["quantiles"])
    assert summary["sra"]["count"] == 1 and summary["sra"]["std"] == 0
    assert summarise([]) == {"count": 0}


def test_the_paired_error_is_agresti_and_mins():
    """By their formula for matched pairs: half a count more in each cell of the table."""
    only_one, only_other, count = 7, 2, 40
    differences = torch.tensor([1.0] * only_one + [-1.0] * only_other)
    differences = torch.cat([differences, torch.zeros(count - len(differences))])
    b, c, n = only_one + 0.5, only_other + 0.5, count + 2
    expected = (((b + c) - (b - c) ** 2 / n) ** 0.5) / n
    assert paired_error(differences) == pytest.approx(expected)
    assert paired_error(torch.zeros(10)) > 0, "ten images on which both agree prove nothing"
    assert paired_error(differences) < measuring_error([0.5], count) * 2**0.5
