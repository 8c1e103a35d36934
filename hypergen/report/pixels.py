"""Images, and what an attack changes of them, as the pixels that pictures show."""

import numpy


def pixels(image: numpy.ndarray) -> numpy.ndarray:
    """uint8, [H,W,3] of three channels, else [H,W] of the mean of all; image: [C,H,W] in [0,1]."""
    if len(image) != 3:
        image = image.mean(0, keepdims=True)
    found = (255 * image.clip(0, 1)).round().astype("uint8").transpose(1, 2, 0)
    return found if len(image) == 3 else found[..., 0]


def magnification(changes: numpy.ndarray) -> float:
    """By how much changes of pixels are magnified for the largest to become black or white.

    Without any change it is 1.
    """
    largest = float(abs(changes).max())
    return 0.5 / largest if largest > 0 else 1.0


def magnified(changes: numpy.ndarray, times: float) -> numpy.ndarray:
    """Changes as images in [0,1], in which grey is no change."""
    return 0.5 + times * changes
