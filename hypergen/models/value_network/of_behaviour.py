"""A value network that looks at what networks do on the images that they are measured on."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergen.catalog import VALUE_NETWORKS
from hypergen.measures.base import Batch, LogitMeasure, Measure
from hypergen.models.value_network.base import ValueNetwork
from hypergen.runtime.batching import for_all
from targets import Population

MARGINS = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)
"""By how much, relative to the spread of the logits, images should at least be right."""


class SetValueNetwork(ValueNetwork):
    """Looks at what the network does: a small shared MLP on each labelled image, then their mean.

    An image's features are the log-probability and the margin of its true class. Margins are
    relative to the spread of the logits, so that larger logits alone do not look like robustness.
    Permutation-invariant over images (Zaheer et al. 2017).

    Each measure is estimated from the logits that it judges by: robust networks are less sure of
    clean images, and a generator whose V had found that out lowered clean margins for the sake of
    robustness, and so learned to hide from gradients. A black box, which only gives a number, is
    estimated from the clean images, each with its class and how sure the network is.
    """

    def __init__(self, measures: Sequence[Measure], num_classes: int):
        super().__init__()
        self.measures, self.num_classes = tuple(measures), num_classes
        self.has_black_boxes = not all(isinstance(each, LogitMeasure) for each in measures)
        count = len(self.measures)
        self.layers = nn.Sequential(
            nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, count)
        )
        if self.has_black_boxes:
            self.of_image = nn.Sequential(
                nn.Linear(3 + num_classes, 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU()
            )
            self.of_all = nn.Sequential(nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, count))

    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,B,F]: two features for each `LogitMeasure`; four more if there are black boxes."""
        labels = batch.labels
        logits = {
            measure.name: measure.logits(population, batch)
            for measure in self.measures
            if isinstance(measure, LogitMeasure)
        }
        features = [_features(each, labels) for each in logits.values()]
        if self.has_black_boxes:
            clean = logits.get("accuracy")
            if clean is None:
                clean = population(for_all(batch.images, population))
            sureness = clean.log_softmax(-1).amax(-1)
            classes = labels.to(sureness.dtype).expand_as(sureness)
            features += [_features(clean, labels), sureness[..., None], classes[..., None]]
        return torch.cat(features, -1)

    def forward(self, features: Tensor) -> Tensor:
        logits, whole = self._logits(features)
        return self._in_order(logits.sigmoid().mean(1), whole.sigmoid())

    def generator_objective(self, features: Tensor) -> Tensor:
        """The mean over images of the log of their share in the estimate, with margin.

        Unlike the estimate its log is steep where an image is far from right: on the estimates
        themselves generators gave up the hardest quarter of all images. And since V is fitted to
        right and wrong, which change at a margin of 0, it is flat beyond: so it is asked also what
        it would say were every margin smaller (`MARGINS`), or nothing would urge the generator to
        stay clear of the edge. Of a black box it is the log of the estimate.
        """
        pairs = features.shape[-1] // 2 - (2 if self.has_black_boxes else 0)
        margins = features.new_tensor([0.0, 1.0] * pairs + [0.0] * (features.shape[-1] - 2 * pairs))
        asked = [self._logits(features - margin * margins) for margin in MARGINS]
        terms = [
            self._in_order(F.logsigmoid(logits).mean(1), F.logsigmoid(whole))
            for logits, whole in asked
        ]
        return torch.stack(terms).mean(0)

    def _logits(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """What each image adds to each estimate, [P,B,L], and what black boxes get, [P,M-L]."""
        own, boxes = [], []
        views = iter(features.split(2, -1))
        for index, measure in enumerate(self.measures):
            if isinstance(measure, LogitMeasure):
                own.append(self.layers(next(views))[..., index : index + 1])
            else:
                boxes.append(index)
        whole = features.new_zeros(len(features), 0)
        if boxes:
            numbers, classes = features[..., -4:].split([3, 1], -1)
            one_hot = F.one_hot(classes.squeeze(-1).long(), self.num_classes).to(numbers.dtype)
            images = self.of_image(torch.cat([numbers, one_hot], -1))
            whole = self.of_all(images.mean(1))[:, boxes]
        return torch.cat(own, -1), whole

    def _in_order(self, logits: Tensor, whole: Tensor) -> Tensor:
        """[P,L] of logit measures and [P,M-L] of black boxes -> [P,M] in the order of all."""
        if not self.has_black_boxes:
            return logits
        columns = {True: iter(logits.unbind(-1)), False: iter(whole.unbind(-1))}
        kinds = [isinstance(measure, LogitMeasure) for measure in self.measures]
        return torch.stack([next(columns[kind]) for kind in kinds], -1)


def _features(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [P,B,K], labels [B] -> [P,B,2]: log-probability and relative margin of the label."""
    index = labels.expand(len(logits), -1)[..., None]
    own = logits.gather(-1, index).squeeze(-1)
    rival = logits.scatter(-1, index, float("-inf")).amax(-1)
    spread = logits.std(-1).clamp_min(1e-6)
    return torch.stack([own - logits.logsumexp(-1), (own - rival) / spread], dim=-1)


@VALUE_NETWORKS.register("set")
def set_value_network(measures: Sequence[Measure], num_classes: int) -> ValueNetwork:
    """How a network behaves on the images, and under the conditions, that it is measured by."""
    return SetValueNetwork(measures, num_classes)
