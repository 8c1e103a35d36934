import pytest
import torch

import attacks
from hypergen.data.builtin import INFOS
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from hypergen.training.recipes import COLOUR, DIGITS, GREY, recipe_for, triangle


def planned(dataset: str, **settings) -> DirectPlan:
    return DirectPlan.of(BaselineConfig.of(dataset=dataset, **settings), INFOS[dataset])


def test_colour_images_have_the_published_recipe():
    plan = planned("cifar10", target="mlp")
    for progress in (0.01, 1):
        attack = plan.training_attack(progress)
        assert attack == attacks.RandomFGSM(attacks.Threat("linf", 8 / 255))
        assert attack.size == 10 / 255
    assert planned("svhn", method="pgd").training_attack(1).threat.epsilon == 8 / 255
    assert planned("svhn", epsilon_factor=1.5).radius == 12 / 255
    assert (plan.epochs, plan.recipe.batch_size, plan.learning_rate) == (30, 128, 0.2)
    (group,) = plan.recipe.optimizer_of([torch.zeros(1, requires_grad=True)], 0.2).param_groups
    assert (group["momentum"], group["weight_decay"], group["lr"]) == (0.9, 5e-4, 0.2)


@pytest.mark.parametrize(
    ("dataset", "settings", "rate"),
    [
        ("cifar10", {"activation": "kaf-swish"}, 0.8),
        ("cifar10", {"activation": "kaf-swish-40"}, 0.8),
        ("cifar10", {"activation": "gelu"}, 0.2),
        ("cifar10", {"activation": "kaf-swish", "learning_rate": 0.1}, 0.1),
        ("mnist", {"activation": "kaf-swish"}, 5e-3),
    ],
)
def test_vgg_has_the_learning_rates_of_its_own_study(dataset, settings, rate):
    assert planned(dataset, target="vgg", **settings).learning_rate == rate


def test_images_of_a_kind_have_a_recipe_each():
    for name, recipe in (("digits", DIGITS), ("mnist", GREY), ("fashion-mnist", GREY)):
        assert recipe_for(INFOS[name], "mlp", "relu") is recipe
    assert recipe_for(INFOS["cifar10"], "resnet20", "relu") is COLOUR
    assert (GREY.epochs, DIGITS.epochs, GREY.batch_size) == (10, 40, 100)


def test_the_learning_rate_rises_and_falls_on_straight_lines():
    assert [triangle(p) for p in (0, 0.2, 0.4, 0.7, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
