"""Layers kept to a bound, against dense matrices."""

import pytest
import torch
from torch import nn

from targets import TargetError, WeightLayout
from targets.spectral_bound import SpectralBound

SHAPE = (2, 8, 8)


class Twice(nn.Module):
    """One convolution on images of two sizes."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, images):
        return self.conv(self.conv(images)[:, :, ::2, ::2]).flatten(1)


def target():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(4, 3, 3, dilation=1, padding=1, padding_mode="circular"),
        nn.Flatten(),
        nn.Linear(48, 5),
    )


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def dense_norms(module, shape=SHAPE):
    """The norm of each layer's matrix, by name, on the input that it has."""
    found, inputs = {}, {}
    layers = {n: m for n, m in module.named_modules() if hasattr(m, "weight")}

    def note(layer, args):
        inputs.setdefault(layer, []).append(args[0].shape[1:])

    hooks = [layer.register_forward_pre_hook(note) for layer in layers.values()]
    with torch.no_grad():
        module(torch.zeros(1, *shape))
        for hook in hooks:
            hook.remove()
        for name, layer in layers.items():
            norms = []
            for each in inputs[layer]:
                units = torch.eye(each.numel()).view(-1, *each)
                matrix = (layer(units) - layer(torch.zeros_like(units[:1]))).flatten(1)
                norms.append(torch.linalg.matrix_norm(matrix, 2))
            found[f"{name}.weight"] = max(norms)
    return found


def populate(module, count=3, size=3.0):
    layout = WeightLayout.of(module)
    return layout, size * layout.scales() * torch.randn(count, layout.size)


@pytest.mark.parametrize("make", [target, Twice])
def test_norms_are_those_of_dense_matrices(make):
    module = make()
    tensors = {name: tensor[None] for name, tensor in module.named_parameters()}
    found = SpectralBound(module, SHAPE, 1.0).norms(tensors)
    for name, expected in dense_norms(module).items():
        assert float(found[name].detach()) == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.parametrize("bound", [0.3, 1.0, 4.0])
def test_every_layer_is_divided_by_what_it_is_above_the_bound(bound):
    module = target()
    layout, theta = populate(module)
    divided = SpectralBound(module, SHAPE, bound).of_vectors(theta)
    for before, after in zip(theta, divided, strict=True):
        old, new = layout.unflatten(before), layout.unflatten(after)
        module.load_state_dict(old)
        for name, norm in dense_norms(module).items():
            torch.testing.assert_close(
                new[name], old[name] / max(1.0, float(norm) / bound), rtol=1e-3, atol=0
            )
        module.load_state_dict(new)
        assert max(dense_norms(module).values()) <= bound * 1.001
        assert all(torch.equal(new[n], old[n]) for n in old if n.endswith("bias"))


def test_a_network_is_divided_in_place_once_and_for_all():
    module = target()
    with torch.no_grad():
        for weights in module.parameters():
            weights *= 5
    bound = SpectralBound(module, SHAPE, 1.0)
    bound.project(module)
    once = [weights.clone() for weights in module.parameters()]
    bound.project(module)
    for weights, before in zip(module.parameters(), once, strict=True):
        torch.testing.assert_close(weights, before, rtol=1e-4, atol=0)


def test_networks_do_not_depend_on_those_beside_them():
    module = target()
    _, theta = populate(module)
    bound = SpectralBound(module, SHAPE, 0.5)
    alone = torch.cat([bound.of_vectors(one[None]) for one in theta])
    torch.testing.assert_close(bound.of_vectors(theta), alone, rtol=1e-5, atol=1e-7)


def test_gradients_are_those_of_the_division():
    """Scaling a layer that is above the bound changes nothing, any other direction does."""
    module = target()
    layout, theta = populate(module, 1)
    theta.requires_grad_()
    bound = SpectralBound(module, SHAPE, 0.5)
    direction = torch.randn(layout.size)
    (gradient,) = torch.autograd.grad((bound.of_vectors(theta) * direction).sum(), theta)
    with torch.no_grad():
        tensors, slopes = layout.unflatten(theta), layout.unflatten(gradient)
        for name in dense_norms(module):
            scale = tensors[name].norm() * slopes[name].norm()
            assert float((tensors[name] * slopes[name]).sum().abs() / scale) < 1e-2
        move = torch.randn_like(theta)
        ahead, back = (bound.of_vectors(theta + s * 1e-2 * move) for s in (1, -1))
        measured = ((ahead - back) * direction).sum() / 2e-2
    assert float((gradient * move).sum()) == pytest.approx(float(measured), rel=0.05)


@pytest.mark.parametrize(
    "module, problem",
    [
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2)), "batch norm"),
        (nn.Sequential(nn.PReLU(), nn.Flatten()), "expected linear layers or convolutions"),
        (
            nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 2, 3))),
            "weights of their own",
        ),
    ],
)
def test_other_targets_are_refused(module, problem):
    with pytest.raises(TargetError, match=problem):
        SpectralBound(module, SHAPE, 1.0)
