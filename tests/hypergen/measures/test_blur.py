import pytest
import torch
from scipy.ndimage import gaussian_filter

from hypergen.measures import Blur

RNG = torch.Generator()


@pytest.mark.parametrize("std", [0.4, 1.0, 1.7])
def test_it_is_scipys_filter(std):
    images = torch.rand(2, 3, 20, 25, dtype=torch.float64)
    known = gaussian_filter(images.numpy(), std, mode="mirror", axes=(2, 3), radius=round(4 * std))
    torch.testing.assert_close(Blur(std).corrupt(images, RNG), torch.from_numpy(known))


def test_hardly_any_blur_changes_nothing():
    images = torch.rand(3, 1, 8, 8)
    assert Blur(0.01).corrupt(images, RNG).equal(images)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (4, 3)])
def test_a_blur_wider_than_the_image_is_its_mean(size):
    images = torch.rand(3, 1, *size, dtype=torch.float64)
    blurred = Blur(1000.0).corrupt(images, RNG)
    assert blurred.shape == images.shape
    assert (blurred.amax((-2, -1)) - blurred.amin((-2, -1)) < 0.7).all()
    flat = torch.full_like(images, 0.3)
    torch.testing.assert_close(Blur(1000.0).corrupt(flat, RNG), flat)
