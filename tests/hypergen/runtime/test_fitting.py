"""What is computed at once, so that it stays within a budget; with the same results."""

import gc
import threading

import pytest
import torch
from torch import nn

import attacks
import targets
from hypergen.budget import held, limited_memory
from hypergen.errors import InputError
from hypergen.measures.attacked import attack_population, attacked_images
from hypergen.runtime import fitting
from hypergen.runtime.fitting import Fit, bytes_needed, fit
from targets import Ensemble, Population

SHAPE = (3, 8, 8)
ATTACK = attacks.PGD(attacks.Threat("linf", 0.1), steps=3)


def population_of(target: str, count: int = 2) -> Population:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Population.of(targets.build(target, input_shape=SHAPE) for _ in range(count))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def left(monkeypatch):
    """Sets how many bytes are left, of a large budget that somebody asked for."""

    def leave(size: float, cores: int = 2) -> None:
        monkeypatch.setattr(fitting, "CERTAIN", 0.0)
        monkeypatch.setattr(fitting, "allowed", lambda: 2**40)
        monkeypatch.setattr(fitting, "room", lambda: size)
        monkeypatch.setattr(fitting.torch, "get_num_threads", lambda: cores)

    return leave


def test_first_fewer_images_at_a_time_and_then_fewer_cores(images, left):
    population = population_of("resnet20")
    need = {part: bytes_needed(population, images, 1, part) for part in (None, 20, 10, 1)}
    assert need[None] > need[20] > need[10] > need[1] > 0
    for room, expected in (
        (2.01 * need[None], Fit(None, None, 2)),
        (1.99 * need[None], Fit(None, 20, 2)),
        (1.99 * need[20], Fit(None, None, 1) if need[None] < 1.99 * need[20] else Fit(None, 20, 1)),
        (1.01 * need[20], Fit(None, 20, 1)),
        (1.01 * need[1], Fit(None, 1, 1)),
    ):
        left(room)
        assert fit(population, images) == expected
    left(0.99 * need[1])
    with pytest.raises(
        InputError, match="one network on one image needs about .* raise it"
    ) as told:
        fit(population, images)
    assert "\n" not in str(told.value)


def test_nobody_who_was_not_limited_is_refused(images, left, monkeypatch):
    left(0)
    monkeypatch.setattr(fitting, "allowed", lambda: None)
    assert fit(population_of("mlp"), images) == Fit(None, 1, 1)


def test_a_batch_of_which_images_decide_one_another_stays_whole(images, left):
    population = population_of("resnet20").normalized_by_batch()
    left(bytes_needed(population, images, 3, None) * 0.99, cores=1)
    assert fit(population, images, passes=3) == Fit(None, 40, 1)  # computed twice instead
    left(bytes_needed(population, images, 1, None) * 0.99, cores=1)
    with pytest.raises(InputError, match="one network on 40 images"):
        fit(population, images, passes=3)


@pytest.mark.parametrize("target", ["light-cnn", "resnet20-group", "mlp"])
@pytest.mark.parametrize("vote", [False, True])
def test_figures_do_not_depend_on_the_budget(target, vote, images, left):
    population = population_of(target).recalibrate(images)
    networks = Ensemble(population) if vote else population
    labels = torch.arange(40) % 10

    def found() -> list[torch.Tensor]:
        masks = attack_population(networks, images, labels, ATTACK, 0)
        return [masks.clean, masks.robust, attacked_images(networks, images, labels, ATTACK, 0)]

    whole = found()
    left(1.01 * bytes_needed(networks, images, 1, 5), cores=1)
    assert fit(networks, images).images == 5
    for one, other in zip(found(), whole, strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_of_weights_in_parts_are_those_of_all(images):
    for population in (population_of("vgg-group"), population_of("vgg").normalized_by_batch()):
        theta, found = population.theta.clone().requires_grad_(), []
        for networks in (population, population.in_parts(7)):
            logits = networks.with_theta(theta)(images.expand(2, -1, -1, -1, -1))
            found.append(torch.autograd.grad(logits.square().mean(), theta)[0])
        torch.testing.assert_close(*found)


class Wide(nn.Module):
    """Keeps 8 MB of each image for a gradient, which the C library hands back at once."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 64, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        images = nn.functional.interpolate(images, (180, 180))
        return self.layer(images).square().mean((2, 3))[:, :10]


def taken(population: Population, images: torch.Tensor, left: int) -> int:
    """Bytes taken at most while the images are attacked with so many left, beside those before."""
    if not held():
        pytest.skip("this system does not tell")
    attack, labels = attacks.PGD(ATTACK.threat, steps=1), torch.zeros(len(images)).long()
    attacked_images(population, images[:2], labels[:2], attack, 0)
    gc.collect()
    before, seen, done = held(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(held())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with limited_memory(before + left):
            attacked_images(population, images, labels, attack, 0)
    finally:
        done.set()
        watcher.join()
    return max(seen) - before


def test_a_gradient_takes_no_more_than_was_allowed():
    """With all images at once it would take several times that."""
    population, images = Population.of([Wide()]), torch.rand(64, 3, 8, 8)
    assert bytes_needed(population, images) > 2**30
    assert 2**26 < taken(population, images, 2**28) < 1.1 * 2**28


@pytest.mark.slow
@pytest.mark.parametrize("target", targets.TARGETS)
def test_every_target_is_attacked_within_a_budget(target):
    """In which a quarter of the images fit."""
    population = Population.of([targets.build(target, input_shape=(3, 32, 32))])
    images = torch.rand(64, 3, 32, 32)
    left = int(1.01 * bytes_needed(population, images, 1, 16)) + 2**24
    assert taken(population, images, left) < 1.1 * left
