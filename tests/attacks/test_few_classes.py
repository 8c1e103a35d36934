"""Two and three classes, for which AutoAttack's targeted loss is not defined."""

import pytest
import torch

import attacks
from attacks import Threat
from tests.attacks.test_linear import FEATURES, grey_images, linear


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["apgd-t", "standard"])
def test_linear_classifiers_keep_exactly_the_images_whose_margin_is_wide_enough(classes, name):
    rng, epsilon = torch.Generator().manual_seed(classes), 0.008
    weight = torch.randn(classes, FEATURES, generator=rng)
    images = grey_images(1, 60, rng)[0]
    center = images.flatten(1).mean(0)
    network = linear(weight, -weight @ center)
    logits = network(images)
    labels = logits.argmax(-1)
    lead = logits.gather(1, labels[:, None]) - logits
    reach = epsilon * (weight[labels][:, None] - weight[None]).abs().sum(-1)
    slack = (lead - reach).masked_fill(torch.nn.functional.one_hot(labels, classes).bool(), 9)
    clear = slack.abs().amin(1) > 1e-4  # rounding decides the others
    options = {"steps": 20} if name == "apgd-t" else {"steps": 20, "queries": 50}
    attack = attacks.build(name, Threat("linf", epsilon), **options)
    found = attacks.attack(attack, network, images, labels).robust_mask
    exact = (slack > 0).all(1)
    assert clear.sum() > 50 and 0 < exact.sum() < len(exact)
    assert found[clear].equal(exact[clear])
