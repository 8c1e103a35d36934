import torch
from torch.nn import functional as F

from hypergen.data.augmentation import crop_and_flip

IMAGES = torch.arange(200 * 2 * 5 * 6, dtype=torch.float32).view(200, 2, 5, 6) + 1


def test_every_image_is_a_window_of_itself_padded():
    found = set()
    out = crop_and_flip(IMAGES, 2, True, torch.Generator().manual_seed(0))
    for image, seen in zip(F.pad(IMAGES, (2,) * 4), out, strict=True):
        windows = {
            (row, column, flip): window.flip(2) if flip else window
            for row in range(5)
            for column in range(5)
            for window in [image[:, row : row + 5, column : column + 6]]
            for flip in (False, True)
        }
        (which,) = [name for name, window in windows.items() if window.equal(seen)]
        found.add(which)
    assert len(found) > 45  # of 50, in 200 draws


def test_without_room_nothing_moves():
    rng = torch.Generator().manual_seed(0)
    assert crop_and_flip(IMAGES, 0, False, rng).equal(IMAGES)
    mirrored = crop_and_flip(IMAGES, 0, True, rng)
    same = torch.tensor([a.equal(b) for a, b in zip(mirrored, IMAGES, strict=True)])
    assert mirrored[~same].equal(IMAGES[~same].flip(3)) and 70 < same.sum() < 130
