import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from hypergen import data
from hypergen.data import memory, npz
from hypergen.errors import InputError
from tests.hypergen.data.files import content, splits

RNG = np.random.default_rng(0)
BYTES = RNG.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(40) % 4
SMALL = LABELS.astype(np.uint8)


def load(folder: Path, save=np.savez, options=None, **arrays) -> data.Dataset:
    """What a file of these arrays gives."""
    save(folder / "own.npz", **arrays)
    return data.load(f"npz:{folder}/own.npz", **options or {})


def refusal(folder: Path, **arrays) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, **arrays)
    assert "\n" not in str(caught.value) and "own.npz" in str(caught.value)
    return str(caught.value)


def written(channels_first: np.ndarray, labels: np.ndarray) -> list[tuple[int, bytes]]:
    images = torch.from_numpy(np.ascontiguousarray(channels_first))
    return content(data.Split(images, torch.from_numpy(labels.astype(np.int64))))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("keys", [("images", "labels"), ("x", "y")])
@pytest.mark.parametrize("order", ["C", "F"])
def test_what_was_written_is_loaded_in_stratified_parts(tmp_path, save, keys, order):
    values = np.asarray(BYTES, order=order)
    own = load(tmp_path, save, **dict(zip(keys, (values, LABELS), strict=True)))
    assert (own.input_shape, own.class_names) == ((3, 6, 5), ("0", "1", "2", "3"))
    assert (own.epsilon, own.info.crop, own.info.flip) == (None, 0, False)
    assert content(*splits(own).values()) == written(BYTES.transpose(0, 3, 1, 2), LABELS)
    sizes = [split.labels.bincount().tolist() for split in splits(own).values()]
    assert sizes == [[7] * 4, [1] * 4, [2] * 4]
    again = splits(load(tmp_path, save, **dict(zip(keys, (values, LABELS), strict=True))))
    assert all(split.images.equal(again[part].images) for part, split in splits(own).items())


IN_PARTS = ["x_{} y_{}", "{}_images {}_labels"]  # the latter are those of MedMNIST


def named(names: str, **rows: slice) -> dict[str, np.ndarray]:
    """The arrays of some parts, each of these rows of all images."""
    pairs = {part: names.format(part, part).split() for part in rows}
    images = {pairs[part][0]: BYTES[chosen] for part, chosen in rows.items()}
    return images | {pairs[part][1]: SMALL[chosen] for part, chosen in rows.items()}


@pytest.mark.parametrize("names", IN_PARTS)
def test_given_parts_are_kept(tmp_path, names):
    parts = named(names, train=slice(30), test=slice(30, 40))
    first = BYTES.transpose(0, 3, 1, 2)
    two = load(tmp_path, **parts)
    assert content(two.train, two.val) == written(first[:30], LABELS[:30])
    assert content(two.test) == written(first[30:], LABELS[30:])
    assert two.val.labels.bincount().tolist() == [1] * 4
    three = load(tmp_path, **parts, **named(names, val=slice(5, 8)))
    assert content(three.val) == written(first[5:8], LABELS[5:8])
    assert content(three.train) == written(first[:30], LABELS[:30])


@pytest.mark.parametrize("names", IN_PARTS)
@pytest.mark.parametrize("present", ["train", "val", "test"])
def test_what_is_missing_of_given_parts_is_named(tmp_path, names, present):
    whole = {"train": slice(30), "test": slice(30, 40)} | {present: slice(30, 40)}
    for lone in named(names, **{present: slice(30, 40)}):
        lacking = {key: each for key, each in named(names, **whole).items() if key != lone}
        assert f"there is no array {lone} in it" in refusal(tmp_path, **lacking)
        wanted = f"there is no array {' nor '.join(sorted(lacking))} in it"
        assert wanted in refusal(tmp_path, **{lone: BYTES})


@pytest.mark.parametrize("shape", [(40, 28, 28), (40, 28, 28, 3)])
def test_files_in_the_form_of_medmnist(tmp_path, shape):
    """Labels are a column. The same images under other names are the same data set."""
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    arrays, plain = {}, {}
    for part, rows in (("train", slice(20)), ("val", slice(20, 28)), ("test", slice(28, 40))):
        arrays |= {f"{part}_images": values[rows], f"{part}_labels": LABELS[rows, None]}
        plain |= {f"x_{part}": values[rows], f"y_{part}": LABELS[rows]}
    own = splits(load(tmp_path, np.savez_compressed, **arrays))
    assert own["val"].images.shape == (8, 3 if len(shape) == 4 else 1, 28, 28)
    for part, split in splits(load(tmp_path, **plain)).items():
        assert own[part].images.equal(split.images) and own[part].labels.equal(split.labels)
    message = refusal(tmp_path, **arrays | {"train_labels": np.eye(4, dtype=np.uint8)[LABELS[:20]]})
    assert "train part: labels must be one number for each of the 20 images, got [20, 4]" in message
    assert "several classes at once are not supported" in message


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_keep_their_bits(tmp_path, dtype):
    values = RNG.random((40, 6, 5)).astype(dtype)
    own = load(tmp_path, images=values, labels=LABELS)
    assert own.input_shape == (1, 6, 5) and own.train.images.dtype == torch.float32
    expected = written(values[:, None].astype(np.float32), LABELS)
    assert content(*splits(own).values()) == expected


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((40, 6, 5), None, (1, 6, 5)),
        ((40, 1, 6, 5), None, (1, 6, 5)),
        ((40, 6, 5, 1), None, (1, 6, 5)),
        ((40, 3, 6, 5), None, (3, 6, 5)),
        ((40, 1, 1, 1), None, (1, 1, 1)),
        ((40, 3, 6, 3), "NHWC", (3, 3, 6)),
        ((40, 3, 6, 3), "NCHW", (3, 6, 3)),
        ((40, 5, 6, 4), "NHWC", (4, 5, 6)),
    ],
)
def test_layouts(tmp_path, shape, layout, expected):
    values = RNG.integers(0, 256, shape, dtype=np.uint8)
    extra = {} if layout is None else {"layout": layout}
    own = load(tmp_path, images=values, labels=LABELS, **extra)
    assert own.input_shape == expected
    if layout == "NHWC":
        values = values.transpose(0, 3, 1, 2)
    assert content(*splits(own).values()) == written(values.reshape(40, *expected), LABELS)


@pytest.mark.parametrize("shape", [(40, 3, 6, 3), (40, 3, 6, 1), (40, 5, 6, 4)])
def test_a_layout_that_cannot_be_told_is_asked_for(tmp_path, shape):
    message = refusal(tmp_path, images=np.zeros(shape, np.uint8), labels=LABELS)
    assert 'layout="NCHW"' in message and "own.npz" in message


def test_classes_can_be_named(tmp_path):
    names = ["cat", "dog", "a\nb", "é"]
    own = load(tmp_path, images=BYTES, labels=LABELS, class_names=names)
    assert own.class_names == tuple(names)
    message = refusal(tmp_path, images=BYTES, labels=LABELS, class_names=names[:3])
    assert "label of train is 3, expected 0 to 2" in message
    message = refusal(tmp_path, images=BYTES, labels=LABELS, class_names=[*names, "eel"])
    assert "no training image has the label 4" in message


def test_size_and_grey(tmp_path):
    options = {"image_size": 4, "grey": True}
    bytes_ = load(tmp_path, options=options, images=BYTES, labels=LABELS)
    floats = load(tmp_path, options=options, images=BYTES / 255, labels=LABELS)
    assert bytes_.input_shape == floats.input_shape == (1, 4, 4)
    for part, split in splits(bytes_).items():
        other = splits(floats)[part].images * 255  # but for rounding, once to grey, once resized
        assert (split.images - other).abs().max() <= 1.01
    four = {"images": np.zeros((40, 4, 6, 5), np.uint8), "layout": "NCHW", "labels": LABELS}
    with pytest.raises(InputError, match="`grey` is for images of 1 or 3 channels, got 4"):
        load(tmp_path, options={"grey": True}, **four)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS - 1, "at least 0, got -1"),
        (LABELS * 1.0, "whole numbers, got float64"),
        (LABELS == 0, "whole numbers, got bool"),
        (LABELS.astype(str), "whole numbers, got <U"),
        (LABELS + 1, "no training image has the label 0"),
        (LABELS * 2, "no training image has the label 1"),
        (LABELS.astype(np.uint64) + 2**63, "a label is 9223"),
        (LABELS * 0, "all images are of one class"),
        (LABELS[:39], r"each of the 40 images, got \[39\]"),
        (np.eye(4)[LABELS], "argmax"),
        (LABELS[:, None, None], r"got \[40, 1, 1\]"),
        (LABELS[None], r"got \[1, 40\]"),
        (np.zeros(()), r"got \[\]"),
    ],
)
def test_labels_that_are_refused(tmp_path, labels, message):
    with pytest.raises(InputError, match=message) as caught:
        load(tmp_path, images=BYTES, labels=labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (BYTES / 100, "in [0,1], found 0 to 2."),
        (BYTES / 255 - 0.5, "in [0,1], found -0.5"),
        (np.where(BYTES > 250, np.nan, 0), "in [0,1], found nan"),
        (BYTES.astype(np.int64), "uint8, or floats in [0,1], got int64"),
        (BYTES + 0j, "got complex128"),
        (BYTES.reshape(40, -1), "got [40, 90]"),
        (BYTES[:, :0], "got [40, 0, 5, 3]"),
        (np.zeros((0, 4, 4), np.uint8), "got [0, 4, 4]"),
    ],
)
def test_images_that_are_refused(tmp_path, images, message):
    assert message in refusal(tmp_path, images=images, labels=LABELS)


def test_nineteen_images_are_too_few(tmp_path):
    assert "19 images" in refusal(tmp_path, images=BYTES[:19], labels=LABELS[:19])
    assert load(tmp_path, images=BYTES[:20], labels=LABELS[:20]).num_classes == 4


def test_parts_that_do_not_fit(tmp_path):
    parts = {"x_train": BYTES, "y_train": LABELS, "x_test": BYTES, "y_test": LABELS + 1}
    assert "label of test is 4, expected 0 to 3" in refusal(tmp_path, **parts)
    for other in (BYTES[:, :5], BYTES / 255):
        message = refusal(tmp_path, **parts | {"x_test": other, "y_test": LABELS})
        assert "of test" in message and "expected the same" in message
    assert "no array labels" in refusal(tmp_path, images=BYTES)
    assert "found arr_0, z" in refusal(tmp_path, z=BYTES, arr_0=LABELS)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "trace"), "w")

    trap = np.array([Trap()] * 40, object)
    for arrays in ({"images": trap, "labels": LABELS}, {"images": BYTES, "labels": trap}):
        assert "Python objects, which are not read" in refusal(tmp_path, **arrays)
    assert not (tmp_path / "trace").exists()


def header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    form = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, form)
    return file.getvalue()


def packed(folder: Path, images: bytes, kind: int = zipfile.ZIP_DEFLATED) -> str:
    """What a file with these bytes for its images is refused for."""
    labels = io.BytesIO()
    np.save(labels, LABELS)
    with zipfile.ZipFile(folder / "own.npz", "w", kind) as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", labels.getvalue())
    with pytest.raises(InputError) as caught:
        data.load(f"npz:{folder}/own.npz")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_an_array_says_of_itself_is_checked_before_it_is_read(tmp_path, monkeypatch):
    """Nothing is made room for before: a bomb is small when packed."""
    monkeypatch.setattr(npz, "room", None)
    for shape in ((40, 10**6, 10**6), (40, 2**40, 2**40), (-40, -10, 10)):
        assert "not as long as its header says" in packed(tmp_path, header(shape))
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**20)
    monkeypatch.setattr(npz, "machine_memory", lambda: 2**20)
    bomb = header((40, 512, 512)) + bytes(40 * 512 * 512)
    assert "unpacks to 0.0 GB, more than the memory" in packed(tmp_path, bomb)
    assert (tmp_path / "own.npz").stat().st_size < 2**16


@pytest.mark.parametrize("images", [b"", b"no npy file", header((40, 6, 5))[:50]])
def test_damaged_arrays_are_told(tmp_path, images):
    assert "no readable npz file" in packed(tmp_path, images)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("at", [0.3, 0.6, 0.9])
def test_damaged_files_are_told(tmp_path, save, at):
    path = tmp_path / "own.npz"
    save(path, images=BYTES, labels=LABELS)
    whole = path.read_bytes()
    where = int(len(whole) * at)
    for damaged in (whole[:where], whole[:where] + b"\0\1\2\3" + whole[where + 4 :]):
        path.write_bytes(damaged)
        try:
            own = data.load(f"npz:{path}")
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)
        else:  # what is not read may be damaged
            assert content(*splits(own).values()) == written(BYTES.transpose(0, 3, 1, 2), LABELS)


def test_no_file_and_no_npz(tmp_path):
    for path, message in (
        ("", "Is a directory"),
        (tmp_path / "none.npz", "No such file"),
        (__file__, "no readable npz file (BadZipFile"),
    ):
        with pytest.raises(InputError, match=message.replace("(", r"\(")):
            data.load(f"npz:{path}")


def test_large_files_are_mapped(tmp_path, monkeypatch):
    in_memory = splits(load(tmp_path, images=BYTES, labels=LABELS))
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * BYTES.nbytes - 4)
    for part, split in splits(load(tmp_path, images=BYTES, labels=LABELS)).items():
        assert split.images.equal(in_memory[part].images)
