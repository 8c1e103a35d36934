import pytest
import torch
from torch.nn import functional as F

from hypergen.errors import InputError
from hypergen.measures import Shift
from tests.hypergen.measures.figures import accuracy, figures


def test_unmoved_it_is_accuracy(mixture, images):
    assert figures(Shift(0), mixture, *images).equal(accuracy(mixture, *images))


def test_each_image_is_moved_by_its_own_draw_and_all_draws_occur():
    images = torch.rand(1, 2, 5, 6).expand(300, -1, -1, -1)
    moved = Shift(1).corrupt(images, torch.Generator().manual_seed(0))
    padded = F.pad(images[0], (1,) * 4)
    known = [padded[:, y : y + 5, x : x + 6] for y in range(3) for x in range(3)]
    found = torch.stack([(moved == each).flatten(1).all(1) for each in known])
    assert (found.sum(0) == 1).all() and (found.sum(1) > 10).all()


def test_farther_than_the_image_is_refused(mixture, images):
    with pytest.raises(InputError, match="8 pixels a side can be moved by up to 7, got 8"):
        figures(Shift(8), mixture, *images)
