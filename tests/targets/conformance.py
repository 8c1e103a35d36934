"""What any target must do with any activation, and the checks.

Every function in CHECKS takes a function from a seed to a freshly initialised target for 10 classes
on a device, the shape of its images, and that device.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional as F

from attacks import LineSearchFGSM, Threat
from targets import Population, WeightLayout

CLASSES = 10
MakeTarget = Callable[[int], nn.Module]
Shape = tuple[int, int, int]


def problem(
    make: MakeTarget, shape: Shape, networks: int = 3, batch: int = 4
) -> tuple[Population, Tensor]:
    """A population and images [P,B,C,H,W], in float64: the comparisons are about mathematics."""
    rng = torch.Generator().manual_seed(0)
    population = Population.of(make(seed).double() for seed in range(networks))
    images = torch.rand(networks, batch, *shape, generator=rng, dtype=torch.float64)
    images = images.to(population.theta.device)
    return population.recalibrate(images.flatten(0, 1)), images


def gradients(
    model: Callable[[Tensor], Tensor], images: Tensor, *others: Tensor
) -> tuple[Tensor, ...]:
    """Logits, and the gradients of a loss with respect to the images and to `others`."""
    images = images.clone().requires_grad_()
    logits = model(images)
    labels = torch.arange(logits.flatten(0, -2).shape[0], device=images.device) % 7
    loss = F.cross_entropy(logits.flatten(0, -2), labels)
    return logits.detach(), *torch.autograd.grad(loss, (images, *others))


def assert_alike(one: Tensor, other: Tensor, atol: float) -> None:
    """That float32 logits are equal to `atol`, on a GPU to 1e-4 of the largest."""
    if one.device.type != "cpu":
        atol = 1e-4 * float(other.abs().max())
    torch.testing.assert_close(one, other, rtol=0, atol=atol)


def answers_with_logits(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    images = torch.rand(3, *shape).to(device)
    for module in (make(0).eval(), make(0).train()):
        logits = module(images)
        assert logits.shape == (3, CLASSES) and logits.isfinite().all()


def every_weight_learns(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    module = make(0).train()
    images, labels = torch.rand(20, *shape).to(device), torch.arange(20, device=device) % CLASSES
    F.cross_entropy(module(images), labels).backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def is_built_ready_to_train(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    assert all(layer.training for layer in make(0).modules())


def same_seed_same_weights(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    layout = WeightLayout.of(make(0))
    first, again, other = (layout.flatten(make(seed).state_dict()) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def layout_is_all_weights(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    module = make(0)
    layout = WeightLayout.of(module)
    assert layout.size == sum(parameter.numel() for parameter in module.parameters())
    scales = layout.scales()
    assert scales.shape == (layout.size,) and (scales > 0).all()
    assert layout.fingerprint == WeightLayout.of(make(1)).fingerprint


def population_equals_a_loop_over_modules(
    make: MakeTarget, shape: Shape, device: torch.device
) -> None:
    population, images = problem(make, shape)
    modules = [population[index] for index in range(len(population))]
    theta = population.theta.clone().requires_grad_()
    logits, by_images, by_theta = gradients(population.with_theta(theta), images, theta)

    def loop(points: Tensor) -> Tensor:
        return torch.stack([net(x) for net, x in zip(modules, points, strict=True)])

    weights = [parameter for module in modules for parameter in module.parameters()]
    expected, expected_by_images, *by_weights = gradients(loop, images, *weights)
    expected_by_theta = torch.cat([gradient.flatten() for gradient in by_weights])
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(by_images, expected_by_images)
    torch.testing.assert_close(by_theta.flatten(), expected_by_theta)


def vmap_equals_loop(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    population, images = problem(make, shape)
    results = []
    for name in ("_loop", "_vmap"):
        other = population.with_theta(population.theta.clone().requires_grad_())
        tensors = other._each() if name == "_loop" else other._tensors()
        path = functools.partial(getattr(other, name), tensors)
        results.append(gradients(path, images, other.theta))
    for loop, vmapped in zip(*results, strict=True):
        torch.testing.assert_close(loop, vmapped)
    measured = [
        ways([images[0]]) for ways in (population._statistics_loop, population._statistics_vmap)
    ]
    for name, buffer in measured[0].items():
        torch.testing.assert_close(buffer, measured[1][name])


def packed_equals_alone(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    population = Population.of(make(seed) for seed in range(3))
    images = torch.rand(3, 5, *shape).to(device)
    packed = gradients(population, images)[0]
    for index in range(3):
        only = slice(index, index + 1)
        alone = gradients(population[only], images[only])[0]
        assert_alike(alone, packed[only], 0)


def images_do_not_influence_each_other(
    make: MakeTarget, shape: Shape, device: torch.device
) -> None:
    population, images = problem(make, shape, networks=1, batch=6)
    together = population(images)
    alone = torch.cat([population(images[:, i : i + 1]) for i in range(6)], dim=1)
    torch.testing.assert_close(alone, together)


def opens_in_plain_pytorch(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    images = torch.rand(5, *shape).to(device)
    population = Population.of(make(seed) for seed in range(2)).recalibrate(images)
    logits = population(images.expand(2, *images.shape))
    for index in range(2):
        module = make(7)
        raw = save(population[index].state_dict())  # the bytes of a weight file
        module.load_state_dict(load(raw), strict=True)
        with torch.no_grad():
            assert_alike(module.eval()(images), logits[index], 1e-5)


def takes_an_fbf_step(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    module, images = make(0).train(), torch.rand(1, 4, *shape).to(device)
    attack = LineSearchFGSM(Threat("linf", 0.1))
    attacked = attack.perturb(lambda x: module(x[0])[None], images, torch.arange(4), [0])
    assert attacked.min() >= 0 and attacked.max() <= 1
    assert 0.05 < (attacked - images).abs().max() < 0.1 + 1e-6
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
    F.cross_entropy(module(attacked[0]), torch.arange(4, device=device)).backward()
    optimizer.step()
    after = nn.utils.parameters_to_vector(module.parameters())
    assert after.isfinite().all() and (after != before).any()


def works(make: MakeTarget, shape: Shape, device: torch.device) -> None:
    """The main points, with one network: for targets that are too large for all checks."""
    drawn = functools.cache(make)  # to draw millions of weights takes long

    def fresh(*args: Any) -> nn.Module:
        return copy.deepcopy(drawn(*args))  # what is trained below is another network

    every_weight_learns(fresh, shape, device)
    takes_an_fbf_step(fresh, shape, device)
    population, images = problem(fresh, shape, networks=1, batch=2)
    other = fresh(1).double()
    other.load_state_dict(load(save(population[0].state_dict())), strict=True)
    weights = list(other.eval().parameters())
    theta = population.theta.clone().requires_grad_()
    logits, by_images, by_theta = gradients(population.with_theta(theta), images, theta)
    expected, expected_by_images, *by_weights = gradients(
        lambda x: other(x[0])[None], images, *weights
    )
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(by_images, expected_by_images)
    torch.testing.assert_close(by_theta[0], torch.cat([g.flatten() for g in by_weights]))


CHECKS = [
    answers_with_logits,
    every_weight_learns,
    is_built_ready_to_train,
    same_seed_same_weights,
    layout_is_all_weights,
    population_equals_a_loop_over_modules,
    vmap_equals_loop,
    packed_equals_alone,
    images_do_not_influence_each_other,
    opens_in_plain_pytorch,
    takes_an_fbf_step,
]
