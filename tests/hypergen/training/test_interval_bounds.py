"""Training by interval bounds."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import attacks
import targets
from attacks import Threat
from hypergen.measures import Certified, Stage, judged
from hypergen.training.direct import DirectTrainer, train_direct
from hypergen.training.direct_config import BaselineConfig
from hypergen.training.interval_bounds import IntervalBounds, IntervalLoss
from targets import TargetError

IBP = BaselineConfig(method="ibp", target="mlp", epsilon=0.05)


@pytest.mark.parametrize(("weight", "smoothing"), [(0.0, 0.0), (1.0, 0.1), (0.3, 0.1)])
def test_the_loss_of_a_linear_network_is_that_of_the_worst_corner(weight, smoothing):
    """z_j - z_y falls and rises by epsilon times the l1 norm of W_j - W_y, inside [0,1]."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double()
    images = 0.3 + 0.4 * torch.rand(6, 3, 2, 2, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    size = IntervalBounds(Threat("linf", 0.2), weight).size_on(images)
    loss = IntervalLoss(module)(module, images, labels, size, smoothing)

    logits = module(images)
    of_label = logits.gather(1, labels[:, None])
    distance = (module[1].weight[None] - module[1].weight[labels][:, None]).abs().sum(-1)
    worst = logits - of_label + 0.2 * distance
    parts = [F.cross_entropy(z, labels, label_smoothing=smoothing) for z in (logits, worst)]
    expected = (1 - weight) * parts[0] + weight * parts[1]
    torch.testing.assert_close(loss, expected)
    for found, wanted in zip(
        *(torch.autograd.grad(each, list(module.parameters())) for each in (loss, expected)),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_radius_and_weight_grow_and_stay(digits, cpu):
    plan = DirectTrainer(IBP, digits, cpu).plan
    sizes = [
        (attack.threat.epsilon, attack.weight)
        for attack in map(plan.training_attack, (0.01, 0.05, 0.3, 0.55, 1.0))
    ]
    expected = [(share * 0.05 * 1.15, share * 0.5) for share in (0, 0, 0.5, 1, 1)]
    assert sizes == [pytest.approx(each) for each in expected]
    assert [plan.recipe.rate(p) for p in (0, 0.69, 0.7, 0.89, 0.9, 1)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    passes = -(-2400 // -(-len(digits.train) // 100))  # of so few images
    assert (plan.epochs, plan.learning_rate) == (passes, 1e-3)
    assert plan.gradient_evaluations == 2 * passes * len(digits.train)


def test_more_images_are_certified_than_after_training_against_attacks(digits, cpu):
    images, labels = digits.test.first(500)
    stage = Stage(attacks.PGD, seed=0)  # of which only the threat matters
    shares = {}
    for method in ("fbf", "ibp"):
        config = IBP.replace(method=method, epochs=20, learning_rate=5e-3)
        network = train_direct(DirectTrainer(config, digits, cpu))
        population = targets.Population.of([network])
        measure = Certified(IBP.threat)
        shares[method] = float(judged([measure], population, images, labels, stage))
    assert shares["ibp"] > shares["fbf"] + 0.2


def test_batch_norm_has_the_statistics_of_clean_images(few, cpu):
    trainer = DirectTrainer(IBP.replace(target="resnet20"), few, cpu)
    norm = next(m for m in trainer.module.modules() if isinstance(m, nn.BatchNorm2d))
    seen = []
    norm.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].detach()))
    trainer.module.train()
    trainer.take_step(*few.train.first(8), trainer.plan.training_attack(1.0), 1e-3)
    (inputs,) = seen  # once a step
    torch.testing.assert_close(norm.running_mean, 0.1 * inputs.mean((0, 2, 3)))


@pytest.mark.parametrize("method", ["ibp", "standard"])
def test_nothing_is_dropped_out(method, few_large, cpu):
    config = BaselineConfig(method=method, target="small-lenet5")
    trainer = DirectTrainer(config, few_large, cpu)
    before = trainer.noise.get_state()
    trainer.train_epoch()
    drawn = not trainer.noise.get_state().equal(before)
    assert drawn == (method == "standard")


def test_what_cannot_be_bounded_is_refused_by_name(few, cpu):
    trainer = DirectTrainer(IBP.replace(activation="swish"), few, cpu)
    with pytest.raises(TargetError, match="cannot bound SiLU in layer layers.1"):
        trainer.train_epoch()
