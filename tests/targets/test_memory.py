"""What networks hold of images, counted by hand, and computed in parts."""

import pytest
import torch
from torch import nn

import targets
from targets import Population, TargetError

IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
FLOAT = 4


class Chain(nn.Module):
    """Squares twice, and keeps what each square is of."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.pow(2).pow(2).flatten(1)[:, :4])


class Choosy(Chain):
    """Needs a number to find its way."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert float(images.detach().sum()) >= 0
        return super().forward(images)


class Silent(Chain):
    """Gives no gradient."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images).detach()


@pytest.mark.parametrize("target", [Chain, Choosy, Silent])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_live_bytes_are_those_of_all_tensors_at_once(target, count):
    population = Population.of([target(), target()])
    found, image = population.bytes_live(IMAGES[:count]), 3 * 8 * 8 * FLOAT
    least = 3 if target is not Silent else 2  # points and both squares
    assert least * count * image <= found <= 7 * count * image


def test_a_network_that_fails_on_images_is_told():
    module = targets.build("lenet5", input_shape=(1, 28, 28))
    with pytest.raises(TargetError, match="fail on images"):
        Population.of([module]).bytes_live(IMAGES)


@pytest.mark.parametrize("size", [1, 4, 6, 100])
def test_parts_give_what_the_whole_gives(size):
    population = Population.of(targets.build("mlp", input_shape=(3, 8, 8)) for _ in range(2))
    images = IMAGES.expand(2, *IMAGES.shape)
    found = []
    for networks in (population, population.in_parts(size), population.in_parts(size)[:2]):
        points = images.clone().requires_grad_()
        logits = networks(points)
        (gradient,) = torch.autograd.grad(logits.exp().sum(), points)
        found.append((logits.detach(), gradient))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


def test_parts_keep_no_more_than_one_of_them():
    population = Population.of([targets.build("light-cnn", input_shape=(3, 8, 8))])

    def kept(networks: Population) -> int:
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            networks(IMAGES[None].clone().requires_grad_())
        return sum(sizes.values())

    assert kept(population.in_parts(2)) < kept(population) / 5
