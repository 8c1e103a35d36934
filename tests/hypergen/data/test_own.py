import numpy as np
import pytest
import torch

from hypergen import data
from hypergen.errors import InputError
from tests.hypergen.data.files import PARTS, content, splits

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3
ALL = content(data.Split(torch.from_numpy(IMAGES).permute(0, 3, 1, 2), torch.from_numpy(LABELS)))


@pytest.fixture
def load():
    """Registers a function for the time of a test and loads what it gives."""

    def load(function, **options) -> data.Dataset:
        data.DATASETS.drop("own")
        assert data.DATASETS.register("own")(function) is function
        return data.load("own", **options)

    yield load
    data.DATASETS.drop("own")


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_images_and_labels_are_divided(load, kind):
    if kind is np.ndarray.tolist:  # plain lists are whole numbers: floats do
        own = load(lambda: ((IMAGES / 255).tolist(), LABELS.tolist()))
        assert own.train.images.dtype == torch.float32
        scaled = [
            data.Split((s.images * 255).round().byte(), s.labels) for s in splits(own).values()
        ]
        assert content(*scaled) == ALL
    else:
        own = load(lambda: (kind(IMAGES), kind(LABELS)))
        assert content(*splits(own).values()) == ALL
    assert (own.name, own.input_shape, own.class_names) == ("own", (3, 6, 5), ("0", "1", "2"))
    assert [len(split) for split in splits(own).values()] == [42, 6, 12]
    assert own.epsilon is None and data.usual_epsilon("own") is None


def test_tensors_of_any_kind(load):
    images = torch.rand(60, 1, 4, 4, requires_grad=True)
    own = load(lambda: (images.bfloat16(), torch.from_numpy(LABELS).int()))
    expected = data.Split(images.detach().bfloat16().float(), torch.from_numpy(LABELS))
    assert content(*splits(own).values()) == content(expected)


def test_labels_may_be_a_column(load):
    assert content(*splits(load(lambda: (IMAGES, LABELS[:, None]))).values()) == ALL


def test_given_parts_are_kept(load):
    def pair(rows):
        return IMAGES[rows], LABELS[rows]

    two = load(lambda: (pair(slice(0, 40)), pair(slice(40, 60))))
    assert content(two.train, two.val, two.test) == ALL and len(two.test) == 20
    assert two.val.labels.bincount().tolist() == [1, 1, 1]
    three = load(lambda: (pair(slice(0, 40)), pair(slice(40, 50)), pair(slice(50, 60))))
    assert [len(split) for split in splits(three).values()] == [40, 10, 10]
    assert content(*splits(three).values()) == ALL


@pytest.mark.parametrize(
    "function",
    [
        lambda data_dir, grey, image_size: (data_dir, grey, image_size),
        lambda **options: (options["data_dir"], options["grey"], options["image_size"]),
    ],
)
def test_it_takes_what_it_names(load, function, tmp_path):
    seen = []

    def own(**options):
        seen.append(function(**options))
        return IMAGES, LABELS

    load(own, data_dir=tmp_path, grey=True, image_size=4)
    assert seen == [(tmp_path, True, 4)]


def test_size_and_grey_come_to_what_knows_nothing_of_them(load):
    options = {"grey": True, "image_size": 4}
    arrays = load(lambda: (IMAGES, LABELS), **options)
    assert arrays.input_shape == (1, 4, 4)
    plain = load(lambda: (IMAGES, LABELS))
    made = load(lambda: plain, **options)
    assert made.info == arrays.info
    for part in PARTS:
        assert splits(made)[part].images.equal(splits(arrays)[part].images)


def test_a_data_set_stays_as_it_is(load):
    part = data.Split(torch.rand(4, 2, 3, 3), torch.arange(4))
    info = data.DatasetInfo("mine", (2, 3, 3), tuple("abcd"), 0.2, crop=1, flip=True)
    own = load(lambda: data.Dataset(info, part, part, part))
    assert (own.name, own.epsilon, own.info.crop, own.class_names) == ("own", 0.2, 1, tuple("abcd"))
    assert own.test.images.equal(part.images) and own.test.labels.equal(part.labels)
    for value in (1.5, -0.5, float("nan")):
        wrong = data.Split(torch.full((4, 2, 3, 3), value), part.labels)
        with pytest.raises(InputError, match=r"own: images of val must be in \[0,1\]"):
            load(lambda wrong=wrong: data.Dataset(info, part, wrong, part))


@pytest.mark.parametrize(
    "made", [None, 3, IMAGES, (IMAGES,), (IMAGES, LABELS, 1), ((IMAGES, LABELS), IMAGES), "ab", {}]
)
def test_other_things_are_refused(load, made):
    with pytest.raises(InputError) as caught:
        load(lambda: made)
    assert "\n" not in str(caught.value) and "own: the function returned" in str(caught.value)


def test_ragged_lists_are_refused(load):
    with pytest.raises(InputError, match="own: images and labels must be arrays") as caught:
        load(lambda: ([[1, 2], [3]], LABELS))
    assert "\n" not in str(caught.value)


def test_a_shape_that_tells_no_layout_says_what_to_return(load):
    with pytest.raises(InputError, match="channels come first or last; return a Dataset instead"):
        load(lambda: (IMAGES[:, :3], LABELS))


def test_a_function_that_fails_is_told_with_its_line(load):
    def own():
        raise KeyError("no\nsuch thing")

    with pytest.raises(InputError) as caught:
        load(own)
    message, line = str(caught.value), own.__code__.co_firstlineno + 1
    assert f"own: the function failed in line {line} of {__file__}: KeyError" in message
    assert "\n" not in message

    def wants(more):
        return IMAGES, LABELS

    with pytest.raises(InputError, match="own: wants wants an argument more"):
        load(wants)
