"""Networks that answer with more than logits."""

import copy
import pickle
from collections import namedtuple

import pytest
import torch
from torch import nn

from targets import Population, select_output

Pair = namedtuple("Pair", "features logits")


class Answers(nn.Module):
    """Answers with the features of a layer too, as `form` makes it of both."""

    def __init__(self, form):
        super().__init__()
        self.layer, self.head, self.form = nn.Linear(4, 5), nn.Linear(5, 3), form

    def forward(self, images):
        features = self.layer(images.flatten(1))
        return self.form(features, self.head(features))


def pair(features, logits):
    return features, logits


def named(features, logits):
    return {"features": features, "logits": logits}


def sum_of_logits(answer):
    return answer["logits"] + answer["features"].sum(1, keepdim=True)


FORMS = [(pair, 1), (pair, -1), (named, "logits"), (Pair, "logits"), (named, sum_of_logits)]


@pytest.mark.parametrize(("form", "output"), FORMS)
def test_logits_alone(form, output):
    module = Answers(form)
    images, names = torch.rand(6, 1, 2, 2), list(module.state_dict())
    features = module.layer(images.flatten(1))
    expected = module.head(features)
    if output is sum_of_logits:
        expected = expected + features.sum(1, keepdim=True)
    assert select_output(module, output) is module
    assert torch.equal(module(images), expected)
    assert list(module.state_dict()) == names
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(images), expected)
    population = Population.of([module, module])
    points = images.expand(2, *images.shape)
    torch.testing.assert_close(population(points)[1], expected)
    torch.testing.assert_close(population._vmap(population._tensors(), points)[1], expected)
    torch.testing.assert_close(population[1](images), expected)
