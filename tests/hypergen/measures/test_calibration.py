import math

import numpy as np
import torch

from hypergen.measures import calibration
from tests.hypergen.measures.figures import repeating


def expected_calibration_error(probabilities, labels, bins=15):
    """Guo et al. 2017, equations 3 and 5."""
    confidence, answers = probabilities.max(1), probabilities.argmax(1)
    total = 0.0
    for index in range(bins):
        inside = (confidence > index / bins) & (confidence <= (index + 1) / bins)
        if inside.any():
            right = (answers[inside] == labels[inside]).mean()
            total += inside.mean() * abs(right - confidence[inside].mean())
    return total


def test_it_is_one_less_the_error_by_numpy(mixture, images):
    points, labels = images
    found = calibration(mixture, points, labels)
    for index, network in enumerate(mixture):
        probabilities = network(points).softmax(-1).detach().cpu().double().numpy()
        known = 1 - expected_calibration_error(probabilities, labels.cpu().numpy())
        np.testing.assert_allclose(float(found[index]), known, atol=1e-5)


def test_by_hand():
    images = torch.tensor([[math.log(4), 0.0]]).expand(10, 2)[:, None, None]  # class 0 with 80 %
    labels = torch.tensor([0] * 8 + [1] * 2)
    torch.testing.assert_close(calibration(repeating(2, 1.0), images, labels), torch.tensor([1.0]))
    labels = torch.tensor([0] * 5 + [1] * 5)
    torch.testing.assert_close(calibration(repeating(2, 1.0), images, labels), torch.tensor([0.7]))
    sure = calibration(repeating(2, 1000.0, -1000.0), images, torch.zeros(10, dtype=torch.long))
    assert sure.tolist() == [1, 0]  # as sure, always right, and always wrong
