"""The trade-off between accuracy and robustness that one generator answers for, as figures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import moocore
import torch

from hypergen.data import Dataset
from hypergen.errors import InputError
from hypergen.evaluation.sampler import Sampler
from hypergen.evaluation.statistics import prediction_interval
from hypergen.knob import knob_in
from hypergen.measures.attacked import accuracies

CANDIDATES = 21
"""Betas or radii, at equal distances, of which `value_for_accuracy` takes one."""
DRAWN = 8
"""Networks drawn at each of them."""


def on_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Which points [N,M] no other one beats: in no figure below it, and in one above.

    Of equal points the first alone.
    """
    return moocore.is_nondominated(points, maximise=True).tolist()


def spread(points: Sequence[Sequence[float]], count: int, num_classes: int) -> list[int]:
    """Indices of `count` of the points [N,M], those first that add most to the hypervolume.

    One after the other, which comes within 1 - 1/e of the best choice (Nemhauser et al. 1978). When
    none adds anything any more it begins anew with those that are left.
    """
    left, chosen = list(range(len(points))), []
    layer: list[int] = []
    while left and len(chosen) < count:
        reached = hypervolume([points[i] for i in layer], num_classes) if layer else 0.0
        gains = [
            hypervolume([points[i] for i in (*layer, index)], num_classes) - reached
            for index in left
        ]
        best = max(range(len(left)), key=gains.__getitem__)
        if gains[best] <= 0 and layer:
            layer = []
            continue
        layer.append(left.pop(best))
        chosen.append(layer[-1])
    return chosen


def hypervolume(points: Sequence[Sequence[float]], num_classes: int) -> float:
    """What share of all that is better than guessing the points [N,M] reach, in [0,1].

    That is the volume between the reference point (the accuracy of chance, and 0 in each further
    figure) and what some point is at least as good as, divided by the volume up to the perfect
    network (Zitzler and Thiele 1999). The first figure of a point is accuracy.
    """
    chance = 1 / num_classes
    reference = [chance, *[0.0] * (len(points[0]) - 1)]
    return float(moocore.hypervolume(points, ref=reference, maximise=True)) / (1 - chance)


def curve(rows: Sequence[Mapping[str, Any]], figures: Iterable[str]) -> list[dict[str, Any]]:
    """What networks of each beta have: beta, count and, by figure, mean and interval.

    rows: of the networks, each with a `beta` or, all of them, a `radius`, which is told then.
    interval: where a new network of that beta lies in 19 of 20 cases, None of a single one.
    """
    found, knob = [], knob_in(rows)
    for asked in sorted({row[knob] for row in rows}):
        own = [row for row in rows if row[knob] == asked]
        point: dict[str, Any] = {knob: asked, "count": len(own)}
        for name in figures:
            values = [row[name] for row in own]
            mean = sum(values) / len(values)
            point[name] = {"mean": mean, "interval": prediction_interval(values)}
        found.append(point)
    return found


def value_for_accuracy(sampler: Sampler, dataset: Dataset, least: float, seed: int = 0) -> float:
    """The largest beta whose networks, and those of all lower ones, are so accurate on average.

    Or the largest radius. Accuracy in [0,1] is that on validation images, of the same z at
    `CANDIDATES` of them. `InputError`: not even the lowest is, or there is no range.
    """
    knob = sampler.config.knob
    if not sampler.config.has_front:
        raise InputError(
            "`accuracy_at_least` is for generators that were trained on a range of beta or epsilon"
        )
    split = dataset.val
    images, labels = split.first(len(split))
    best = None
    for value in torch.linspace(knob.low, knob.high, CANDIDATES).tolist():
        value = min(max(value, knob.low), knob.high)  # the last may be beyond by rounding
        asked: dict[str, Any] = {knob.name: value}
        population = sampler.sample(DRAWN, seed=seed, **asked)
        accuracy = float(accuracies(population, images, labels).mean())
        if accuracy < least:
            break
        best = value
    if best is None:
        raise InputError(
            f"`accuracy_at_least`: at {knob.name} {knob.low:g} networks have {accuracy:.4f} on "
            f"validation images, which is less than {least:g}"
        )
    return best
