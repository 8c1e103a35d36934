"""Images that are attacked against some samples, to be looked at."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from hypergen.data import Dataset
from hypergen.evaluation.evaluator import Evaluator
from hypergen.measures.attacked import attacked_images
from hypergen.report.page.attacks import AttackedSample
from hypergen.runtime.batching import for_all
from hypergen.runtime.precision import full_precision
from targets import Population

SAMPLES, IMAGES, SHOWN, STEPS = 2, 32, 6, 20
"""Samples attacked, images attacked of each, images of these that are shown, and steps of PGD."""


@full_precision()
def attacked_samples(
    population: Population,
    names: Sequence[str],
    dataset: Dataset,
    evaluator: Evaluator,
) -> list[AttackedSample]:
    """Images before and after PGD against the first samples, those that fooled them first.

    Of the first images only those that a sample gets right are shown; one that gets none right is
    left out. It takes about as long as two steps of training.

    names: of the samples, as they are to be called; evaluator: whose threat, seed and split of
    images are taken.
    """
    few = population[:SAMPLES]
    images, labels = evaluator.images_of(dataset).first(IMAGES)
    judge = replace(evaluator, attack_name="pgd", steps=STEPS, restarts=1, images=IMAGES)
    attacked = attacked_images(few, images, labels, judge.pgd, judge.seed)
    with torch.no_grad():
        before, after = (few(x).softmax(-1) for x in (for_all(images, few), attacked))
    described = judge.describe(dataset)
    return [
        AttackedSample(
            names[place],
            described,
            images[shown].float().cpu().numpy(),
            attacked[place][shown].float().cpu().numpy(),
            labels[shown].tolist(),
            _sure(before[place][shown]),
            _sure(after[place][shown]),
            dataset.info.class_names,
        )
        for place in range(len(few))
        for shown in [chosen(before[place], after[place], labels)]
        if len(shown)
    ]


def chosen(before: Tensor, after: Tensor, labels: Tensor) -> Tensor:
    """Indices of images to show: right when clean, those that fool first, `SHOWN` at most.

    before, after: [N,K]; labels [N].
    """
    right = (before.argmax(-1) == labels).nonzero().flatten()
    fooled = (after.argmax(-1) != labels)[right]
    half = SHOWN // 2
    broken, whole = right[fooled], right[~fooled]
    count = max(half, SHOWN - len(whole))
    return torch.cat([broken[:count], whole[: SHOWN - min(count, len(broken))]])


def _sure(answers: Tensor) -> list[tuple[int, float]]:
    share, number = answers.max(-1)
    return [*zip(number.tolist(), share.tolist(), strict=True)]
