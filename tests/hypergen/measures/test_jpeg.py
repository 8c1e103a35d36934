from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from hypergen.errors import InputError
from hypergen.measures import Jpeg

RNG = torch.Generator()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quality", [10, 40, 90])
def test_each_image_is_as_pillow_reads_it_again(channels, quality):
    smooth = torch.rand(4, channels, 4, 4)
    images = torch.nn.functional.interpolate(smooth, size=(24, 32), mode="bilinear")
    images = images.mul(255).round() / 255
    found = Jpeg(quality).corrupt(images, RNG)
    for image, jpeg in zip(images, found, strict=True):
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
        known = torch.from_numpy(np.array(Image.open(buffer))).view(24, 32, channels) / 255
        torch.testing.assert_close(jpeg, known.permute(2, 0, 1))


def test_low_quality_is_farther_from_the_image():
    images = torch.rand(4, 1, 16, 16)
    fine, rough = (Jpeg(quality).corrupt(images, RNG) - images for quality in (100, 5))
    assert fine.abs().max() < 0.02 < 0.1 < rough.abs().mean()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_images_of_one_pixel_a_side_keep_their_shape(size):
    for channels in (1, 3):
        assert Jpeg().corrupt(torch.rand(2, channels, *size), RNG).shape == (2, channels, *size)


def test_images_of_other_channels_are_refused():
    with pytest.raises(InputError, match="JPEG has 1 or 3 channels, got 4"):
        Jpeg().corrupt(torch.rand(2, 4, 8, 8), RNG)
