"""Spectral norms against dense singular value decompositions."""

import pytest
import torch
from torch import nn
from torch.func import vmap

from targets.spectral import spectral_norms

LAYERS = {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "one output": (lambda: nn.Linear(7, 1), (7,)),
    "plain": (lambda: nn.Conv2d(2, 3, 3), (2, 6, 6)),
    "padded": (lambda: nn.Conv2d(2, 3, 3, padding=1), (2, 6, 6)),
    "wide padding": (lambda: nn.Conv2d(1, 2, 3, padding=3), (1, 4, 5)),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (2, 6, 6)),
    "reflected": (lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), (2, 5, 5)),
    "strided": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 7, 7)),
    "stride beyond kernel": (lambda: nn.Conv2d(2, 3, 2, stride=3), (2, 8, 8)),
    "uneven": (lambda: nn.Conv2d(2, 3, (1, 3), stride=(2, 1), padding=(0, 1)), (2, 5, 6)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2), (2, 7, 7)),
    "grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 5, 5)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, stride=2), (4, 7, 7)),
    "sequence": (lambda: nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 9)),
    "volume": (lambda: nn.Conv3d(1, 2, 2), (1, 3, 4, 3)),
    "transposed": (lambda: nn.ConvTranspose2d(2, 3, 3, stride=2, padding=1), (2, 4, 4)),
}


def dense_norm(layer, shape):
    """The norm of the layer's matrix, a column for each unit vector."""
    size = torch.Size(shape).numel()
    columns = layer(torch.eye(size).view(size, *shape)) - layer(torch.zeros(1, *shape))
    return torch.linalg.matrix_norm(columns.flatten(1), 2)


@pytest.fixture(autouse=True)
def in_double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(before)


@pytest.mark.parametrize("make, shape", LAYERS.values(), ids=LAYERS)
def test_norms_are_those_of_the_dense_matrix(make, shape):
    layers = [make() for _ in range(3)]
    shifts = [layer(torch.zeros(1, *shape)) for layer in layers]

    def linear(values):
        pairs = zip(layers, values.split(1), shifts, strict=True)
        return torch.cat([layer(value) - shift for layer, value, shift in pairs])

    found = spectral_norms(linear, torch.randn(3, *shape))
    expected = torch.stack([dense_norm(layer, shape) for layer in layers])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_close_singular_values_do_not_stop_the_search_early():
    values = torch.cat([torch.tensor([1.001, 1.0]), torch.linspace(0, 0.9999, 300)])
    found = spectral_norms(lambda x: x * values, torch.randn(1, 302))
    assert abs(float(found) - 1.001) < 1e-4


def test_a_map_to_zero_has_norm_zero_and_one_without_numbers_has_none():
    assert spectral_norms(lambda x: 0 * x, torch.randn(2, 5)).tolist() == [0, 0]
    assert spectral_norms(lambda x: x * torch.nan, torch.randn(1, 5)).isnan().all()


def test_a_norm_does_not_depend_on_what_is_computed_beside_it():
    matrices, start = torch.randn(4, 40, 40), torch.randn(40)

    def norms(some):
        return spectral_norms(
            lambda values: vmap(torch.mv)(some, values), start.expand(len(some), -1)
        )

    alone = torch.cat([norms(matrices[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(norms(matrices), alone, rtol=1e-12, atol=0)


def test_the_gradient_is_that_of_the_singular_value():
    matrix = torch.randn(1, 6, 4, requires_grad=True)
    found = spectral_norms(lambda x: torch.einsum("poi,pi->po", matrix, x), torch.randn(1, 4))
    (own,) = torch.autograd.grad(found.sum(), matrix)
    (expected,) = torch.autograd.grad(torch.linalg.matrix_norm(matrix, 2).sum(), matrix)
    torch.testing.assert_close(own, expected, rtol=1e-3, atol=1e-4)
