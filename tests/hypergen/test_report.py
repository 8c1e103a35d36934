import pytest
import torch

from hypergen.report import agreement

ROWS = [{"accuracy": a, "robustness": r} for a, r in ((0.6, 0.5), (0.8, 0.5), (1.0, 0.5))]


def test_agreement_is_mean_error_r2_and_tau():
    estimates = torch.tensor([[0.7, 0.4], [0.6, 0.5], [1.0, 0.7]])
    found = agreement(estimates, ROWS)
    # Squared errors .01 + .04 + 0 of .08 around the mean; two of three pairs in order.
    assert found["accuracy"] == pytest.approx(
        {"mean_error": 0.1, "r2": 1 - 0.05 / 0.08, "kendall_tau": 1 / 3}
    )
    assert found["robustness"] == {
        "mean_error": pytest.approx(0.1),
        "r2": None,
        "kendall_tau": None,
    }


def test_estimates_that_are_right_agree_perfectly():
    estimates = torch.tensor([[row["accuracy"], row["robustness"]] for row in ROWS])
    assert agreement(estimates, ROWS)["accuracy"] == pytest.approx(
        {"mean_error": 0, "r2": 1, "kendall_tau": 1}
    )


def test_one_network_has_no_order():
    assert agreement(torch.tensor([[0.5, 0.5]]), ROWS[:1])["accuracy"] == {
        "mean_error": pytest.approx(0.1),
        "r2": None,
        "kendall_tau": None,
    }
