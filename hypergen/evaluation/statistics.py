"""Sums up figures of many networks: intervals, spreads, and how well estimates agree with them."""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy
import torch
from torch import Tensor

QUANTILES = 0.05, 0.25, 0.5, 0.75, 0.95
FIGURES = (
    "accuracy",
    "robustness",
    "pgd",
    "sra",
    "pgd_on_sra_images",
    "union",
    "outside_dictionary",
)
"""What a row of a network may have and a summary has of all rows."""


def measuring_error(shares: Sequence[float], images: int) -> float:
    """The standard error of a share in [0,1] found on so many images, over several networks.

    Of a mean of other numbers in [0,1] it is the most that it can be.
    """
    return math.sqrt(statistics.fmean(share * (1 - share) for share in shares) / images)


def paired_error(differences: Tensor) -> float:
    """The standard error of a mean of differences [N] in [-1,1], one an image.

    Of two classifiers judged by the same images a difference is -1, 0 or 1: then this is the error
    of Agresti and Min 2005, who count half an image more of each kind: that the first alone gets
    right, the second alone, both, or neither; so a few images on which both agree prove nothing.
    `differences` may be of means over classifiers.
    """
    count = len(differences) + 2
    mean, square = float(differences.sum()) / count, float(differences.square().sum()) + 1
    return math.sqrt((square / count - mean**2) / count)


def ranking_error(masks: Tensor) -> float:
    """The standard error of one network's share less the mean share of all; masks bool [P,N].

    The same images judge all P networks, at least two, so what is easy or hard for all of them
    leaves nothing open: this is the residual of a two-way analysis of variance. One image alone
    tells nothing: then it is 0.5, the most that it can be.
    """
    networks, images = masks.shape
    if images == 1:
        return 0.5
    right = masks.double()
    residual = right - right.mean(1, keepdim=True) - right.mean(0) + right.mean()
    return math.sqrt(float(residual.square().sum()) / ((networks - 1) * (images - 1)) / images)


def prediction_interval(values: Sequence[float]) -> list[float] | None:
    """Where the next of normally distributed values lies in 19 of 20 cases; None after one value.

    That is the mean and, to both sides, Student's t times the standard deviation of a new value
    less the mean of these.
    """
    from scipy.stats import t  # here, for it is slow to load

    count = len(values)
    if count < 2:
        return None
    mean = statistics.fmean(values)
    reach = float(t.ppf(0.975, count - 1)) * statistics.stdev(values) * math.sqrt(1 + 1 / count)
    return [mean - reach, mean + reach]


def summarise(rows: Sequence[dict[str, Any]], measures: Iterable[str] = ()) -> dict[str, Any]:
    """Count, and mean, standard deviation, least, greatest and `QUANTILES` of each figure.

    measures: names of figures beside `FIGURES`.
    """
    summary: dict[str, Any] = {"count": len(rows)}
    for name in (*FIGURES, *measures):
        values = [row[name] for row in rows if name in row]
        if values:
            summary[name] = {
                "count": len(values),
                "mean": statistics.fmean(values),
                "std": statistics.pstdev(values),
                "min": min(values),
                "max": max(values),
                "quantiles": numpy.quantile(values, QUANTILES).tolist(),
            }
    return summary


def kendall_tau(estimated: Sequence[float], measured: Sequence[float]) -> float | None:
    """How alike two lists rank, in [-1,1]; None where all of one are equal, or there is one."""
    from scipy.stats import kendalltau  # here, for it takes a second that others need not spend

    if len(measured) < 2:
        return None
    tau = float(kendalltau(estimated, measured).statistic)  # pyright: ignore
    return tau if tau == tau else None


def agreement(
    names: Iterable[str], estimates: Tensor, rows: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """How estimates [P,M] agree with what was measured of the same networks, by measure's name.

    rows: of the networks, each with a figure by the name of each measure.

    mean_error is absolute, overestimate is the mean with its sign; r2 and kendall_tau say little
    where networks are nearly equal, which spread tells, the standard deviation of what was
    measured: r2 then falls far below 0, and tau is chance.
    """
    result = {}
    for name, estimated in zip(names, estimates.T, strict=True):
        measured = torch.tensor([row[name] for row in rows])
        total = (measured - measured.mean()).square().sum()
        residual = (measured - estimated).square().sum()
        result[name] = {
            "mean_error": float((measured - estimated).abs().mean()),
            "overestimate": float((estimated - measured).mean()),
            "r2": float(1 - residual / total) if total > 0 else None,
            "kendall_tau": kendall_tau(estimated.tolist(), measured.tolist()),
            "spread": float(measured.std(correction=0)),
        }
    return result
