import pytest
import torch

import targets
from hypergen.runtime.batching import chunk_jobs, chunks, for_all, map_chunks, recalibrated
from hypergen.runtime.fitting import (
    BATCH_IMAGES,
    KEPT_SHARE,
    Fit,
    fit,
    images_at_once,
    networks_at_once,
)
from targets import Ensemble, Population

SHAPE = (1, 5, 5)


@pytest.fixture
def population(device) -> Population:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        modules = [targets.build("mlp", input_shape=SHAPE) for _ in range(3)]
    return Population.of(module.eval().to(device) for module in modules)


@pytest.fixture
def images(device):
    return torch.rand(300, *SHAPE, generator=torch.Generator().manual_seed(1)).to(device)


def memory_for(room: float, population: Population, images: torch.Tensor) -> int:
    """Bytes of a GPU that has room for what so many networks keep of images."""
    return int(room * population.bytes_kept(images) / KEPT_SHARE)


def test_chunks_together_give_what_one_call_gives(population, images):
    def logits(chunk, image_slice):
        return chunk(for_all(images[image_slice], chunk))

    whole = population(for_all(images, population))
    torch.testing.assert_close(map_chunks(logits, population, images), whole)
    ensemble = Ensemble(population)
    alone = ensemble(images[None])
    torch.testing.assert_close(map_chunks(logits, ensemble, images), alone)
    images = images[:1]
    torch.testing.assert_close(map_chunks(logits, population, images), whole[:, :1])


@pytest.mark.parametrize("one_at_a_time", [False, True])
@pytest.mark.parametrize("batch_size", [1, 7, 300, 1000])
def test_jobs_cover_every_network_and_image_once(population, images, batch_size, one_at_a_time):
    count = torch.zeros(3, 300)
    for network_slice, chunk, image_slice in chunk_jobs(
        population, images, batch_size, Fit(), one_at_a_time
    ):
        assert chunk.theta.equal(population.theta[network_slice])
        assert image_slice.stop - image_slice.start <= batch_size
        assert len(chunk) == 1 or not one_at_a_time
        count[network_slice, image_slice] += 1
    assert (count == 1).all()
    assert sum(len(chunk) for _, chunk in chunks(population, images)) == 3


@pytest.mark.parametrize(("room", "expected"), [(0.5, 1), (1.5, 1), (2.5, 2), (100.5, 100)])
def test_a_gpu_takes_as_many_networks_at_once_as_it_has_the_memory_for(
    population, images, room, expected
):
    memory = memory_for(room, population, images)
    assert networks_at_once(population, images, memory) == expected
    assert networks_at_once(Ensemble(population), images, memory) is None


@pytest.mark.parametrize(("room", "expected"), [(1e-6, 1), (0.1, 16), (1, 256), (2.1, 512)])
def test_a_gpu_takes_as_many_images_at_once_as_it_has_the_memory_for(
    population, images, room, expected
):
    many = images[:1].expand(BATCH_IMAGES, *SHAPE)
    memory = memory_for(room, population, many)
    assert images_at_once(population, many, memory) == expected
    # Whatever population a network is in; but where three vote, all three are in the memory.
    assert images_at_once(population[1:], many, memory) == expected
    memory = memory_for(3.1 * room, population, many)
    assert images_at_once(Ensemble(population), many, memory) == expected
    assert images_at_once(population, many, memory_for(99, population, many)) == 2048


def test_a_cpu_takes_one_network_and_a_fixed_number_of_images(population, images):
    if images.device.type == "cpu":
        assert networks_at_once(population, images) is None
        assert images_at_once(population, images) == BATCH_IMAGES
        assert [len(chunk) for _, chunk in chunks(population, images)] == [1, 1, 1]
        assert fit(population, images) == Fit()


def test_batch_norm_is_measured_as_on_all_at_once(device):
    modules = [targets.build("resnet20", input_shape=(3, 8, 8)) for _ in range(2)]
    population = Population.of(modules).to(device)
    images = torch.rand(20, 3, 8, 8, device=device)
    found, expected = recalibrated(population, images), population.recalibrate(images)
    for name, buffer in expected.buffers.items():
        torch.testing.assert_close(found.buffers[name], buffer)


def test_for_all_copies_nothing(population, images):
    stack = for_all(images, population)
    assert stack.shape == (3, *images.shape) and stack.data_ptr() == images.data_ptr()
