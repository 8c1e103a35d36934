"""What the metrics of a run are: names, units and meanings, and how TensorBoard groups them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

SHARE = "from 0 to 1"
POINTS = "difference of shares, from -1 to 1"
NATS = "nats"
NONE = "no unit"
COUNT = "number"


@dataclass(frozen=True)
class Tag:
    """A metric, or one of each measure or kind of network.

    Args:
        name: in metrics.jsonl and in TensorBoard; MEASURE stands for the name of a measure, KIND
            for that of a kind of networks.
        unit: in which it is.
        meaning: what it is, in a sentence without its full stop.
    """

    name: str
    unit: str
    meaning: str

    def matches(self, name: str) -> bool:
        """Whether a metric of that name is this one."""
        pattern = re.escape(self.name).replace("MEASURE", ".+").replace("KIND", ".+")
        return re.fullmatch(pattern, name) is not None


TAGS = (
    Tag(
        "loss",
        "nats with objective direct, else no unit",
        "what the generator descends, mean over the networks of a step: direct, their weighted "
        "cross-entropies; value, minus the weighted estimates of the value network; hybrid, the "
        "sum of both",
    ),
    Tag(
        "gradient_norm",
        NONE,
        "L2 norm of the loss's gradient with respect to the generator's weights, before it is "
        "clipped to 1",
    ),
    Tag(
        "value_loss",
        NATS,
        "binary cross-entropy of the value network's estimates with what was measured, at the last "
        "of its steps after a measurement",
    ),
    Tag(
        "measured/MEASURE",
        SHARE,
        "the measure of the step's networks on its training images, mean over networks, with the "
        "budget of training",
    ),
    Tag(
        "estimated/MEASURE",
        SHARE,
        "what the value network says of the same networks, right after it was fitted to them too",
    ),
    Tag(
        "check/MEASURE",
        SHARE,
        "the measure of samples on validation images with a larger budget, mean over networks; "
        "robustness by four quick attacks",
    ),
    Tag(
        "check/MEASURE/gap",
        POINTS,
        "what the measure says with the budget of training beyond that; where it is large the "
        "budget is raised",
    ),
    Tag(
        "check/MEASURE/overestimate",
        POINTS,
        "what the value network says beyond it; where it grows the generator learns to please the "
        "value network",
    ),
    Tag("check/MEASURE/budget", COUNT, "factor by which the measure's own budget was raised"),
    Tag("check/attack_steps", COUNT, "gradient steps of the attacks of training"),
    Tag(
        "check/epsilon",
        "of pixel values from 0 to 1, in the run's norm",
        "radius of the threat at this step, which grows at first; of a range, the largest",
    ),
    Tag(
        "disagreement",
        SHARE,
        "share of validation images that two samples class differently, where that is asked for",
    ),
    Tag(
        "prior_scale",
        "relative to 1/sqrt(fan-in)",
        "how far the random prior sets samples apart from here on, where disagreement is asked for",
    ),
    Tag(
        "front/hypervolume",
        SHARE,
        "for a run of a range of beta or epsilon: the share of all that is better than guessing "
        "which the generator reaches in accuracy and PGD on a few validation images",
    ),
    Tag(
        "final/KIND/MEASURE",
        SHARE,
        "after the training: the mean of results.json over the networks of a kind, on the images "
        "of the report; sra is standard robust accuracy",
    ),
    Tag(
        "scores",
        "picture",
        "the networks measured last, as measured and as the value network estimates them, a point "
        "a network",
    ),
    Tag(
        "examples",
        "picture",
        "validation images and a sample's answers to them: clean and attacked by PGD, between them "
        "the change, magnified; wrong answers are red",
    ),
    Tag("config", "text", "the settings of the run"),
)
"""All that stands in metrics.jsonl (up to check and front) and in TensorBoard."""
PATTERNS = sorted(TAGS, key=lambda tag: ("MEASURE" in tag.name, -len(tag.name)))
"""Whole names first, then the longest: check/MEASURE/gap is no check/MEASURE."""


def tag_of(name: str) -> Tag:
    """What the metric of that name is; without unit and meaning where it is not of `TAGS`."""
    return next((tag for tag in PATTERNS if tag.matches(name)), Tag(name, "", ""))


def layout(measures: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """What TensorBoard's page of custom scalars shows: patterns of tags by chart, by category."""
    kinds = "^(measured|estimated|check)/"
    return {
        "measures: told in training, estimated, checked": {
            f"{name} ({SHARE})": [f"{kinds}{re.escape(name)}$"] for name in measures
        },
        "gaps": {
            f"said with the budget of training beyond the check ({POINTS})": ["^check/.*/gap$"],
            f"said by the value network beyond the check ({POINTS})": ["^check/.*/overestimate$"],
        },
        "losses": {
            f"generator ({tag_of('loss').unit})": ["^loss$"],
            f"value network ({NATS})": ["^value_loss$"],
            f"norm of the generator's gradient ({NONE})": ["^gradient_norm$"],
        },
        "front": {f"hypervolume ({SHARE})": ["^front/hypervolume$"]},
    }
