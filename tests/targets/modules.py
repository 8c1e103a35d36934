"""Networks that several tests use, and what a population of any must do."""

import copy

import torch
from torch import nn

from targets import Population


class Normed(nn.Module):
    """A small residual net with batch norm, a weight per channel and a fixed dictionary."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.act, self.conv = nn.PReLU(4), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.norm1d = nn.AdaptiveAvgPool2d(2), nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 3)
        self.register_buffer("dictionary", torch.linspace(-1, 1, 3), persistent=False)

    def forward(self, images):
        x = self.act(self.norm(self.stem(images)))
        x = self.norm1d(self.pool(x + self.conv(x)).flatten(1))
        return self.head(x) + self.dictionary


class Calls(nn.Module):
    """A module whose forward pass is a function of it and the images."""

    def __init__(self, forward, *layers, **named):
        super().__init__()
        self.call, self.layers = forward, nn.ModuleList(layers)
        for name, layer in named.items():
            self.add_module(name, layer)

    def forward(self, images):
        return self.call(self, images)


ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-10, torch.bfloat16: 0.1}
"""Of the largest number in a tensor."""


def outcome(model, images, weights):
    """Logits, and the gradients of a loss with respect to images and weights."""
    images = images.detach().clone().requires_grad_()
    logits = model(images.clone())  # which may be changed in place
    loss = (logits.double() * torch.linspace(-1, 1, logits.shape[-1])).sum()
    grads = torch.autograd.grad(loss, (images, *weights), allow_unused=True)
    return logits.detach(), [torch.zeros(()) if g is None else g for g in grads]


def assert_equal(found, expected):
    assert found.dtype == expected.dtype and found.shape == expected.shape
    bound = ROUNDING[found.dtype] * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


def check(module, images):
    """A population of three against plain modules, with gradients and without."""
    modules = [copy.deepcopy(module).eval() for _ in range(3)]
    with torch.no_grad():
        for network in modules[1:]:
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
    population = Population.of(modules)
    theta = population.theta.clone().requires_grad_()
    points = torch.stack([images, images.flip(-1), images.flip(0)])
    logits, (by_points, by_theta) = outcome(population.with_theta(theta), points, [theta])
    with torch.no_grad():
        quick = population(points)
    for index, network in enumerate(modules):
        weights = list(network.parameters())
        expected, (by_images, *by_weights) = outcome(network, points[index], weights)
        assert_equal(logits[index], expected)
        assert_equal(quick[index], expected)
        assert_equal(by_points[index], by_images)
        by_weights = [g.expand_as(w) for g, w in zip(by_weights, weights, strict=True)]
        assert_equal(by_theta[index], torch.cat([gradient.flatten() for gradient in by_weights]))
        assert_equal(population[index](points[index]).detach(), expected)
