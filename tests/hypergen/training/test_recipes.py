import pytest
import torch

import attacks
from hypergen.data.builtin import INFOS
from hypergen.training.direct_config import BaselineConfig, DirectPlan
from hypergen.training.recipes import COLOUR, GREY, PLAIN_COLOUR, recipe_for, triangle


def planned(dataset: str, **settings) -> DirectPlan:
    config = BaselineConfig.of(dataset=dataset, **settings)
    return DirectPlan.of(config, INFOS[dataset], 45000)


def test_colour_images_have_the_published_recipe():
    plan = planned("cifar10", target="resnet20")
    for progress in (0.01, 1):
        attack = plan.training_attack(progress)
        assert attack == attacks.RandomFGSM(attacks.Threat("linf", 8 / 255))
        assert attack.size == 10 / 255
    assert (
        planned("svhn", target="resnet20", method="pgd").training_attack(1).threat.epsilon
        == 8 / 255
    )
    assert planned("svhn", target="resnet20", epsilon_factor=1.5).radius == 12 / 255
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
    for name in ("digits", "mnist", "fashion-mnist"):
        assert recipe_for(INFOS[name], "mlp", "relu") is GREY
    before = torch.get_rng_state()
    assert recipe_for(INFOS["cifar10"], "resnet20", "relu") is COLOUR
    assert recipe_for(INFOS["cifar10"], "small-lenet5", "kaf") is PLAIN_COLOUR
    assert torch.get_rng_state().equal(before)
    gains = {
        (target, activation): recipe_for(INFOS["cifar10"], target, activation).gains_by_bf16
        for target in ("resnet20", "vgg", "small-lenet5")
        for activation in ("swish", "kaf-swish")
    }
    assert [each for each, gain in gains.items() if gain] == [
        ("resnet20", "swish"),
        ("vgg", "swish"),
    ]
    plain = planned("cifar10", target="small-lenet5")
    assert (plain.epochs, plain.learning_rate, plain.radius) == (10, 5e-3, 8 / 255)


def test_few_images_are_seen_more_often():
    """Digits 40 times."""
    assert (GREY.epochs, GREY.batch_size) == (10, 100)
    assert [GREY.epochs_on(images) for images in (1, 1168, 4701, 54000)] == [480, 40, 10, 10]
    config = BaselineConfig.of(dataset="digits")
    assert DirectPlan.of(config, INFOS["digits"], 250).steps == 480
    assert DirectPlan.of(config.replace(epochs=2), INFOS["digits"], 250).steps == 6


def test_the_learning_rate_rises_and_falls_on_straight_lines():
    assert [triangle(p) for p in (0, 0.2, 0.4, 0.7, 1)] == pytest.approx([0, 0.5, 1, 0.5, 0])
