"""Options of max-pooling, however they are given."""

import pytest
from torch import nn
from torch.nn import functional as F

from targets.graph import Call, Graph
from targets.intervals import by_place
from targets.pooling import MaxPooling


def call(layer: nn.Module) -> Call:
    """The call of max-pooling in a target of this layer alone."""
    seen = []

    def note(call: Call) -> object:
        seen.append(by_place(call))
        return call

    graph = Graph(nn.Sequential(layer))
    graph.evaluate({}, object(), note, lambda value: True)
    (found,) = seen
    return found


class ByPlace(nn.Module):
    def forward(self, images):
        return F.max_pool2d(images, 3, 2, (1, 0), 2, True)


@pytest.mark.parametrize(
    ("layer", "expected", "plain"),
    [
        (nn.MaxPool2d(2), ((2, 2), (2, 2), (0, 0), (1, 1), False, False), True),
        (nn.MaxPool2d((3, 2), stride=1), ((3, 2), (1, 1), (0, 0), (1, 1), False, False), True),
        (nn.MaxPool1d(4, padding=1), ((4,), (4,), (1,), (1,), False, False), False),
        (
            nn.MaxPool3d(2, ceil_mode=True),
            ((2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3, True, False),
            False,
        ),
        (ByPlace(), ((3, 3), (2, 2), (1, 0), (2, 2), True, False), False),
    ],
)
def test_options_are_read_by_dimension(layer, expected, plain):
    found = MaxPooling.of(call(layer))
    assert found == expected and found.is_plain == plain
