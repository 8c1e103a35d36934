import numpy as np
import pytest
import torch
from PIL import Image

from hypergen.data.pixels import adapted, from_pillow

IMAGES = torch.randint(256, (5, 3, 9, 6), dtype=torch.uint8, generator=torch.Generator())


def test_grey_is_pillows():
    grey = adapted(IMAGES, None, grey=True)
    theirs = [Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L") for image in IMAGES]
    assert grey.numpy()[:, 0].tolist() == [np.asarray(image).tolist() for image in theirs]
    floats = adapted(IMAGES / 255, None, grey=True) * 255
    assert (floats - grey).abs().max() < 0.51
    assert adapted(torch.ones(1, 3, 2, 2), None, grey=True).max() <= 1
    assert adapted(grey, None, grey=True) is grey


@pytest.mark.parametrize("size", [1, 3, 9, 40])
def test_resizing_keeps_constants_and_kinds(size):
    for dtype, value in ((torch.uint8, 255), (torch.uint8, 7), (torch.float32, 0.3)):
        images = torch.full((2, 3, 9, 6), value, dtype=dtype)
        resized = adapted(images, size, grey=False)
        assert resized.shape == (2, 3, size, size) and resized.dtype == dtype
        assert (resized - images[0, 0, 0, 0]).abs().max() <= 1e-6


def test_what_has_the_size_is_not_touched():
    square = IMAGES[:, :, :6]
    assert adapted(square, 6, grey=False) is square
    assert adapted(IMAGES, None, grey=False) is IMAGES


def test_a_halved_image_is_the_weighted_mean_of_a_triangle():
    """Bilinear with antialiasing: weights fall off linearly over two pixels of the result."""
    row = torch.zeros(1, 1, 8, 8)
    row[..., 4] = 1
    resized = adapted(row, 4, grey=False)[0, 0, 0]
    # Centres lie at 1, 3, 5, 7, pixel 4 at 4.5; of the weights 1 - |distance| / 2 each centre's
    # sum to 2, where no border cuts them off.
    assert resized.tolist() == pytest.approx([0, 0.125, 0.375, 0])


def test_every_mode_of_pillow_has_three_channels_or_one():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I", "I;16", "F"):
        image = Image.new(mode, (3, 2))
        for grey in (False, True):
            pixels = from_pillow(image, grey)
            assert pixels.shape == (1 if grey else 3, 2, 3) and pixels.dtype == torch.uint8
