"""A value network that looks at what networks do on the images that they are measured on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hypergen.catalog import VALUE_NETWORKS
from hypergen.measures.base import Batch, LogitMeasure, Measure, told
from hypergen.models.value_network.base import ValueNetwork
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
        self.seen = [isinstance(measure, LogitMeasure) for measure in measures]
        count = len(self.measures)
        self.layers = nn.Sequential(
            nn.Linear(2, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, count)
        )
        if not all(self.seen):
            self.of_image = nn.Sequential(
                nn.Linear(3 + num_classes, 64), nn.SiLU(), nn.Linear(64, 32), nn.SiLU()
            )
            self.of_all = nn.Sequential(nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, count))

    def features(self, population: Population, batch: Batch) -> Tensor:
        """[P,B,F]: two features for each `LogitMeasure`; four more if there are black boxes."""
        logits = {}
        for measure in self.measures:
            if isinstance(measure, LogitMeasure):
                with told(measure):
                    logits[measure.name] = measure.known_logits(population, batch)
        features = [_features(each, batch.labels) for each in logits.values()]
        if not all(self.seen):
            clean = logits["accuracy"]  # which every run has
            sureness = clean.log_softmax(-1).amax(-1)
            classes = batch.labels.to(sureness.dtype).expand_as(sureness)
            features += [_features(clean, batch.labels), torch.stack([sureness, classes], -1)]
        return torch.cat(features, -1)

    def forward(self, features: Tensor) -> Tensor:
        estimates = self._of_images(features).sigmoid().mean(1)
        return self._with_black_boxes(estimates, features, torch.sigmoid)

    def generator_objective(self, features: Tensor) -> Tensor:
        """The mean over images of the log of their share in the estimate, with margin.

        Unlike the estimate its log is steep where an image is far from right: on the estimates
        themselves generators gave up the hardest quarter of all images. And since V is fitted to
        right and wrong, which change at a margin of 0, it is flat beyond: so it is asked also what
        it would say were every margin smaller (`MARGINS`), or nothing would urge the generator to
        stay clear of the edge. Of a black box it is the log of the estimate.
        """
        pairs = sum(self.seen)
        margins = features.new_zeros(features.shape[-1])
        margins[1 : 2 * pairs : 2] = 1
        asked = [features - margin * margins for margin in MARGINS]
        each = torch.stack([F.logsigmoid(self._of_images(e)).mean(1) for e in asked])
        return self._with_black_boxes(each.mean(0), features, F.logsigmoid)

    def _of_images(self, features: Tensor) -> Tensor:
        """[P,B,F] -> [P,B,L], what each image adds to the estimate of each `LogitMeasure`."""
        views = iter(features.split(2, -1))
        return torch.cat(
            [
                self.layers(next(views))[..., index : index + 1]
                for index, seen in enumerate(self.seen)
                if seen
            ],
            -1,
        )

    def _with_black_boxes(
        self, estimates: Tensor, features: Tensor, scaled: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Estimates [P,L] of logit measures -> [P,M], those of black boxes in their places."""
        if all(self.seen):
            return estimates
        numbers, classes = features[..., -4:].split([3, 1], -1)
        one_hot = F.one_hot(classes.squeeze(-1).long(), self.num_classes).to(numbers.dtype)
        images = self.of_image(torch.cat([numbers, one_hot], -1))
        boxes, own = scaled(self.of_all(images.mean(1))), iter(estimates.unbind(-1))
        columns = [next(own) if seen else boxes[:, i] for i, seen in enumerate(self.seen)]
        return torch.stack(columns, -1)


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
