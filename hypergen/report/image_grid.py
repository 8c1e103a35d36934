"""Images side by side with a network's answers, as a small picture that is quick to make."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy

from hypergen.report.palette import BLACK, VERMILLION, for_text
from hypergen.report.pixels import magnification, magnified, pixels

if TYPE_CHECKING:
    from PIL.Image import Image

LEAST_SIDE = 64
"""Pixels that an image is enlarged to at least."""
GAP, LINE = 6, 14
"""Pixels between images, and of a line of text."""
Array = numpy.ndarray


def example_grid(
    clean: Array, attacked: Array, answers: Sequence[Sequence[str]], labels: Sequence[str]
) -> "Image":
    """Clean images, what an attack changes, magnified, and attacked images, with the answers.

    Pixels are enlarged, not blurred; a change of 0 is grey, the largest black or white.

    Args:
        clean: [N,C,H,W] in [0,1]; of other than 3 channels their mean is shown.
        attacked: likewise.
        answers: of the network to clean and to attacked images, [2][N]; wrong ones are red.
        labels: what is right, [N].
    """
    from PIL import Image, ImageDraw

    changes = attacked - clean
    shown = clean, magnified(changes, magnification(changes)), attacked
    factor = max(1, -(-LEAST_SIDE // clean.shape[-1]))
    height, width = (factor * side for side in clean.shape[-2:])
    size = GAP + len(clean) * (width + GAP), LINE + 3 * (height + GAP + LINE)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    largest = f"change by the attack, at most {abs(changes).max():.3g} of pixel values in [0,1]"
    words = answers[0], None, answers[1]
    draw.text((GAP, 0), f"answers to clean images, {largest}, answers to attacked images", BLACK)
    for row, (images, said) in enumerate(zip(shown, words, strict=True)):
        top = LINE + row * (height + GAP + LINE)
        for column, image in enumerate(images):
            left = GAP + column * (width + GAP)
            drawn = Image.fromarray(pixels(image))
            picture.paste(drawn.resize((width, height), Image.Resampling.NEAREST), (left, top))
            if said is not None:
                wrong = said[column] != labels[column]
                colour = for_text(VERMILLION) if wrong else BLACK
                draw.text((left, top + height + 1), said[column][: width // 6], colour)
    return picture
