import torch
from torchvision.transforms.v2 import functional as F

from hypergen.measures import Contrast
from tests.hypergen.measures.figures import accuracy, figures

RNG = torch.Generator()


def test_with_all_contrast_it_is_accuracy(mixture, images):
    assert figures(Contrast(1), mixture, *images).equal(accuracy(mixture, *images))


def test_each_channel_is_drawn_towards_its_mean():
    images = torch.tensor([[[[0.0, 1.0]], [[0.2, 0.4]]]])
    found = Contrast(0.5).corrupt(images, RNG)
    torch.testing.assert_close(found, torch.tensor([[[[0.25, 0.75]], [[0.25, 0.35]]]]))


def test_of_grey_images_it_is_torchvisions():
    images = torch.rand(4, 1, 7, 9)
    torch.testing.assert_close(Contrast(0.15).corrupt(images, RNG), F.adjust_contrast(images, 0.15))
