"""Images, changes and maps as a page shows them."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from hypergen.explore.pictures import change_address, colour_bar, image_address, map_address


def pixels(address: str) -> np.ndarray:
    head, _, data = address.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def test_grey_and_coloured_images_keep_their_pixels():
    values = (torch.arange(3 * 4 * 5) / 59).view(3, 4, 5)
    expected = (255 * values).round().byte().numpy()
    assert (pixels(image_address(values)) == expected.transpose(1, 2, 0)).all()
    assert (pixels(image_address(values[:1])) == expected[0]).all()
    assert pixels(image_address(values[:2])).shape == (4, 5)


@pytest.mark.parametrize("size", [0.004, 0.1, 0.5])
def test_the_largest_change_becomes_black_or_white(size):
    clean = torch.full((1, 2, 2), 0.5)
    change = torch.tensor([[[size, -size], [0.0, size / 2]]])
    address, factor = change_address(clean, clean + change)
    assert factor == pytest.approx(0.5 / size, rel=1e-4)
    assert pixels(address)[0].tolist() == [255, 0]
    assert abs(int(pixels(address)[1, 0]) - 128) <= 1
    assert change_address(clean, clean)[1] == 1.0


def test_a_map_has_its_lowest_row_at_the_bottom_and_pales_what_is_not_known():
    nan = torch.nan
    values = torch.tensor([[0.0, nan], [nan, 1.0]])  # the lower row first
    found = pixels(map_address(values, 0.0, 1.0)).astype(int)
    assert found[1, 0, 3] == found[0, 1, 3] == 255
    assert found[0, 0, 3] == found[1, 1, 3] == round(0.35 * 255)
    low, high = (found[1, 0, :3], found[0, 1, :3])
    assert high.sum() > low.sum()  # viridis goes from dark to bright
    assert any((found[0, 0, :3] == each).all() for each in (low, high))


def test_maps_without_a_range_or_without_anything_known():
    alike = pixels(map_address(torch.full((2, 2), 0.7), 0.7, 0.7))
    assert len(np.unique(alike.reshape(4, 4), axis=0)) == 1
    assert pixels(map_address(torch.full((2, 2), torch.nan), 0.0, 1.0))[..., 3].max() == 0
    assert colour_bar().startswith("linear-gradient(to right, #440154")
