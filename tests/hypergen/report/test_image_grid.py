import numpy
import pytest

from hypergen.report.image_grid import GAP, LINE, example_grid


@pytest.mark.parametrize("channels", [1, 3])
def test_images_stand_above_changes_and_attacked_images(channels):
    clean = numpy.full((2, channels, 8, 8), 0.5)
    attacked = clean + 0.1
    attacked[1] = clean[1] - 0.05
    picture = example_grid(clean, attacked, [["7", "3"], ["7", "8"]], ["7", "3"])
    pixels = numpy.asarray(picture)
    assert pixels.shape == (LINE + 3 * (64 + GAP + LINE), GAP + 2 * (64 + GAP), 3)

    def tile(row: int, column: int) -> set[tuple[int, ...]]:
        top, left = LINE + row * (64 + GAP + LINE), GAP + column * (64 + GAP)
        part = pixels[top : top + 64, left : left + 64].reshape(-1, 3)
        return {tuple(map(int, pixel)) for pixel in part}

    greys = [[128, 128], [255, 64], [153, 115]]  # a change of 0.1 is the largest: white
    for row, values in enumerate(greys):
        for column, value in enumerate(values):
            assert tile(row, column) == {(value, value, value)}


def test_wrong_answers_are_red():
    images = numpy.zeros((1, 1, 8, 8))

    def reds(answer: str) -> int:
        pixels = numpy.asarray(example_grid(images, images, [[answer], ["7"]], ["7"])).astype(int)
        return int((pixels[..., 0] > pixels[..., 2] + 50).sum())

    assert reds("3") > 0 and reds("7") == 0


@pytest.mark.parametrize("channels", [2, 4])
def test_of_other_numbers_of_channels_the_mean_is_shown(channels):
    images = numpy.random.default_rng(0).random((1, channels, 70, 70)).astype("float32")
    answers = [["7"], ["7"]]
    shown = example_grid(images, images, answers, ["7"])
    grey = example_grid(*[images.mean(1, keepdims=True)] * 2, answers, ["7"])
    assert (numpy.asarray(shown) == numpy.asarray(grey)).all()
