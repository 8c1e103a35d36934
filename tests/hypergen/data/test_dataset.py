import json
from dataclasses import replace

import pytest
import torch

from hypergen import data
from hypergen.data import memory
from hypergen.errors import InputError

INFO = data.DatasetInfo("pets", (3, 4, 5), ("cat", "dog", 'a "\n\udcff'), 0.1, crop=2, flip=True)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def split(count: int, shape=(3, 4, 5), classes: int = 3) -> data.Split:
    images = torch.randint(256, (count, *shape), generator=rng(), dtype=torch.uint8)
    return data.Split(images, torch.arange(count) % classes)


def test_batches_are_floats_from_0_to_1(digits):
    images, labels = digits.test.first(500)
    assert images.dtype == torch.float32
    assert images.min() == 0 and images.max() <= 1 and images.max() > 0.95
    assert labels.equal(digits.test.labels)


def test_first_and_draw_give_all_when_asked_for_more(digits):
    assert len(digits.val.first(10_000)[1]) == len(digits.val)
    assert len(digits.val.draw(10_000, rng())[1]) == len(digits.val)


@pytest.mark.parametrize("count", [0, -1])
def test_counts_below_1_are_refused(digits, count):
    for ask in (
        digits.val.first,
        lambda n: digits.val.draw(n, rng()),
        lambda n: next(digits.val.batches(n)),
    ):
        with pytest.raises(InputError, match="at least 1"):
            ask(count)


def test_draw_repeats_no_image_and_follows_its_seed():
    numbers = data.Split(torch.zeros(50, 1, 2, 2, dtype=torch.uint8), torch.arange(50))
    drawn = numbers.draw(30, rng(3))[1]
    assert len(drawn.unique()) == 30
    assert drawn.equal(numbers.draw(30, rng(3))[1])
    assert not drawn.equal(numbers.draw(30, rng(4))[1])


def test_batches_cover_everything_once():
    numbers = data.Split(torch.zeros(50, 1, 2, 2, dtype=torch.uint8), torch.arange(50))
    in_order = [labels for _, labels in numbers.batches(16)]
    assert [len(labels) for labels in in_order] == [16, 16, 16, 2]
    assert torch.cat(in_order).equal(numbers.labels)
    shuffled = torch.cat([labels for _, labels in numbers.batches(16, rng())])
    assert not shuffled.equal(numbers.labels)
    assert shuffled.sort().values.equal(numbers.labels)


def test_bytes_become_255ths_and_floats_keep_their_bits():
    whole = split(6)
    assert whole.batch(torch.tensor([4, 1]))[0].equal(whole.images[[4, 1]].float() / 255)
    floats = data.Split(torch.rand(6, 3, 4, 5, generator=rng()), whole.labels)
    assert floats.batch(torch.tensor([4, 1]))[0].equal(floats.images[[4, 1]])
    batch, _ = floats.first(6)
    assert batch.equal(floats.images)
    batch.zero_()  # what is done to a batch does not reach the data
    assert floats.images.any()


def test_info_survives_json():
    text = json.dumps(INFO.to_json())
    assert data.DatasetInfo.from_json(json.loads(text)) == INFO
    own = data.DatasetInfo("own", (1, 1, 1), ("0", "1"))
    assert (own.epsilon, own.crop, own.flip, own.num_classes) == (None, 0, False, 2)
    assert data.DatasetInfo.from_json(own.to_json()) == own


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("name", 3),
        ("input_shape", [1, 28]),
        ("input_shape", [1, 28, 0]),
        ("input_shape", [1, 28.0, 28]),
        ("input_shape", "abc"),
        ("class_names", ["one"]),
        ("class_names", "cat"),
        ("class_names", [1, 2]),
        ("epsilon", "0.1"),
        ("epsilon", -1),
        ("epsilon", float("nan")),
        ("crop", -1),
        ("crop", True),
        ("flip", 1),
    ],
)
def test_info_of_no_data_set_is_refused(name, value):
    with pytest.raises(InputError, match=f"`{name}`") as caught:
        data.DatasetInfo.from_json(INFO.to_json() | {name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tree", [None, [], "x", {}, {"name": "x"}, INFO.to_json() | {"more": 1}])
def test_info_with_other_keys_is_refused(tree):
    with pytest.raises(InputError, match="class_names, crop"):
        data.DatasetInfo.from_json(tree)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (torch.zeros(4, 4, 5), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3, 4, 5, dtype=torch.float64), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3, 4, 5, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)),
        (torch.zeros(4, 3, 4, 5), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(4, 3, 4, 5), torch.zeros(4, 1, dtype=torch.int64)),
        (torch.zeros(4, 3, 4, 5), torch.zeros(4)),
    ],
)
def test_a_split_of_another_form_is_refused(images, labels):
    with pytest.raises(InputError, match="must be"):
        data.Split(images, labels)


def test_a_data_set_hangs_together():
    part = split(6)
    whole = data.Dataset(INFO, part, part, part)
    assert (whole.name, whole.num_classes, whole.input_shape) == ("pets", 3, (3, 4, 5))
    assert (whole.class_names, whole.epsilon) == (INFO.class_names, 0.1)
    assert whole.device == torch.device("cpu")
    for other, message in (
        (split(6, (3, 4, 4)), "images of val"),
        (data.Split(part.images, part.labels + 1), "outside 0 to 2"),
        (data.Split(part.images, part.labels - 1), "outside 0 to 2"),
        (data.Split(part.images[:0], part.labels[:0]), "no image in val"),
    ):
        with pytest.raises(InputError, match=message):
            replace(whole, val=other)


def test_augmentation_is_that_of_the_data_set():
    part = split(6)
    whole = data.Dataset(INFO, part, part, part)
    plain = part.first(6)[0]
    assert whole.calibration_images(6).equal(whole.augmented(plain, rng()))
    assert not whole.calibration_images(6).equal(plain)
    still = replace(whole, info=replace(INFO, crop=0, flip=False))
    assert still.augmented(plain, rng()) is plain
    mirrored = replace(still, info=replace(still.info, flip=True)).augmented(plain, rng(1))
    same = [a.equal(b) or a.flip(2).equal(b) for a, b in zip(mirrored, plain, strict=True)]
    assert all(same) and not mirrored.equal(plain)


def test_large_images_stay_where_they_are(monkeypatch):
    part = split(60)
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * 60 * 60 - 4)
    moved = part.to("meta")
    assert moved.images is part.images and moved.labels.device.type == "meta"
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * 60 * 60)
    assert part.to("meta").images.device.type == "meta"
