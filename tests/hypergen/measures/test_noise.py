import torch

from hypergen.measures import Noise
from tests.hypergen.measures.figures import accuracy, figures, prepared


def test_without_noise_it_is_accuracy(mixture, images):
    assert figures(Noise(0), mixture, *images).equal(accuracy(mixture, *images))


def test_noise_has_its_size_and_is_the_same_for_every_network(mixture, images):
    grey = torch.full_like(images[0], 0.5)
    made = prepared(Noise(0.1), mixture, grey, images[1], seed=4).prepared["noise"]
    noise = made[0] - grey
    assert abs(float(noise.std()) - 0.1) < 3.5e-3 and abs(float(noise.mean())) < 3.5e-3
    assert made.equal(noise.add(grey).expand(3, *grey.shape))
    assert made.stride(0) == 0  # no copies
    again, other = (
        prepared(Noise(0.1), mixture, grey, images[1], seed).prepared["noise"] for seed in (4, 5)
    )
    assert again.equal(made) and not other.equal(made)


def test_images_stay_images(mixture, images):
    made = prepared(Noise(3), mixture, *images).prepared["noise"]
    assert made.min() == 0 and made.max() == 1
