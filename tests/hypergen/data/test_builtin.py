import os
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from hypergen import data
from hypergen.data import builtin, loading, memory
from hypergen.data.pixels import adapted
from hypergen.errors import InputError
from hypergen.storage.lock import locked
from tests.hypergen.data.files import idx, write_mnist

WHOLE = idx(np.zeros((20, 28, 28)))
LABELS = idx(np.arange(20) % 10)


def test_digits_are_split_evenly_and_for_ever(digits):
    assert (len(digits.train), len(digits.val), len(digits.test)) == (1168, 129, 500)
    assert digits.train.images.shape == (1168, *digits.input_shape)
    assert digits.test.images.dtype == torch.uint8
    assert digits.test.labels.dtype == torch.int64
    per_class = digits.test.labels.bincount()
    assert per_class.min() >= 49 and per_class.max() <= 51
    assert digits.val.labels.bincount(minlength=digits.num_classes).min() >= 5
    # The first labels of each split: they must never change, or figures stop being comparable.
    assert digits.train.labels[:8].tolist() == [6, 2, 0, 0, 0, 7, 0, 9]
    assert digits.test.labels[:8].tolist() == [2, 4, 6, 7, 0, 3, 6, 2]


def test_digits_are_read_as_scikit_learn_reads_them():
    from sklearn.datasets import load_digits  # takes seconds, which no other test here spends

    pairs = zip(builtin.scikit_learn_digits(), load_digits(return_X_y=True), strict=True)
    assert all(np.array_equal(found, expected) for found, expected in pairs)


def test_digits_splits_share_no_image(digits):
    rows = torch.cat([s.images.flatten(1) for s in (digits.train, digits.val, digits.test)])
    assert len(rows) == len(rows.unique(dim=0)) == 1797


@pytest.mark.parametrize("name", ["digits", "mnist", "fashion-mnist", "cifar10", "svhn"])
def test_usual_epsilons(name):
    grey = {"digits", "mnist", "fashion-mnist"}
    assert data.usual_epsilon(name) == (0.1 if name in grey else 8 / 255)
    assert name in data.DATASETS and data.DATASETS.describe(name)


def test_only_shipped_data_sets_have_a_usual_epsilon():
    for name in ("folder:somewhere", "npz:some.npz", "torchvision:KMNIST"):
        assert data.usual_epsilon(name) is None


def test_unknown_name_gets_the_nearest():
    for ask in (data.load, data.usual_epsilon):
        with pytest.raises(InputError, match='did you mean "fashion-mnist"'):
            ask("fashion_mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "svhn"])
def test_missing_files_say_what_to_do(name, tmp_path, offline):
    with pytest.raises(InputError) as caught:
        data.load(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (name, str(tmp_path), "`data_dir`", "HYPERGEN_DATA", '"digits"'):
        assert part in message
    assert socket.getdefaulttimeout() is None


def test_the_folder_falls_back_to_the_environment(tmp_path, offline, monkeypatch):
    monkeypatch.setenv("HYPERGEN_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="elsewhere"):
        data.load("mnist")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (WHOLE[:1000], LABELS),
        (b"", LABELS),
        (b"not an idx file at all", LABELS),
        (idx(np.zeros((20, 8, 8))), LABELS),
        (WHOLE, idx(np.zeros(19))),
        (WHOLE, idx(np.full(20, 200))),
    ],
    ids=["truncated", "empty", "foreign", "other size", "too few labels", "no such class"],
)
def test_damaged_files_are_one_line(images, labels, tmp_path, offline):
    write_mnist(tmp_path, images, labels)
    with pytest.raises(InputError) as caught:
        data.load("mnist", tmp_path)
    message = str(caught.value)
    assert "\n" not in message and f"mnist: unreadable files in {tmp_path}" in message


def test_whole_files_of_the_same_kind_load(tmp_path):
    write_mnist(tmp_path, WHOLE, LABELS)
    mnist = data.load("mnist", tmp_path)
    assert (len(mnist.train), len(mnist.val), len(mnist.test)) == (18, 2, 20)
    assert mnist.test.labels.tolist() == [n % 10 for n in range(20)]


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
def test_a_failed_download_leaves_nothing_new(name, tmp_path, offline):
    with pytest.raises(InputError, match="downloading failed"):
        data.load(name, tmp_path / "new")
    assert not any(tmp_path.iterdir())
    (tmp_path / "old" / "kept").mkdir(parents=True)
    with pytest.raises(InputError, match="downloading failed"):
        data.load(name, tmp_path / "old")
    assert [*(tmp_path / "old").rglob("*")] == [tmp_path / "old" / "kept"]


def test_what_another_process_downloads_is_waited_for(tmp_path, offline):
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path):
            loading = pool.submit(data.load, "mnist", tmp_path)
            with pytest.raises(TimeoutError):
                loading.result(timeout=0.5)
            write_mnist(tmp_path, WHOLE, LABELS)
        assert len(loading.result().test) == 20


def test_size_and_grey_work_for_shipped_data(tmp_path, digits):
    smaller = data.load("digits", image_size=14)
    assert smaller.input_shape == (1, 14, 14) and smaller.epsilon == 0.1
    assert smaller.test.labels.equal(digits.test.labels)
    # Halved with antialiasing, a picture keeps its mean but for rounding and the border.
    means = [each.test.images.float().mean((1, 2, 3)) for each in (smaller, digits)]
    assert (means[0] - means[1]).abs().max() < 1
    assert data.load("digits", grey=True).test.images.equal(digits.test.images)
    for size in (0, -1, 2.0, True):
        with pytest.raises(InputError, match="`image_size` must be a whole number"):
            data.load("digits", image_size=size)


def test_loading_leaves_the_precision_of_a_gpu_to_others():
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [switch.allow_tf32 for switch in switches]
    try:
        for value in (True, False):
            for switch in switches:
                switch.allow_tf32 = value
            data.load("digits")
            assert [switch.allow_tf32 for switch in switches] == [value, value]
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.allow_tf32 = value


def test_svhn(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 30), dtype=np.uint8)
    for part in ("train", "test"):
        savemat(
            tmp_path / f"{part}_32x32.mat",
            {"X": pixels, "y": np.arange(30)[:, None].astype(np.uint8) % 10 + 1},
        )
    monkeypatch.setattr(datasets.SVHN, "_check_integrity", lambda self: True)
    svhn = data.load("svhn", tmp_path)
    assert (len(svhn.train), svhn.input_shape, svhn.epsilon) == (27, (3, 32, 32), 8 / 255)
    assert (svhn.info.crop, svhn.info.flip) == (4, False)
    assert svhn.test.labels[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert svhn.test.images[7].numpy().tolist() == pixels[..., 7].transpose(2, 0, 1).tolist()


@pytest.mark.skipif("HYPERGEN_DATA" not in os.environ, reason="HYPERGEN_DATA is not set")
@pytest.mark.parametrize(
    ("name", "sizes", "first_test_labels"),
    [
        ("mnist", (54000, 6000, 10000), [7, 2, 1, 0, 4, 1, 4, 9]),
        ("fashion-mnist", (54000, 6000, 10000), [9, 2, 1, 1, 6, 1, 4, 6]),
        ("cifar10", (45000, 5000, 10000), [3, 8, 8, 0, 6, 6, 1, 6]),
    ],
)
def test_published_data(name, sizes, first_test_labels):
    loaded = data.load(name)
    assert (loaded.info.crop, loaded.info.flip) == ((4, True) if name == "cifar10" else (0, False))
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == sizes
    assert loaded.test.labels[:8].tolist() == first_test_labels
    assert loaded.test.images.shape[1:] == loaded.input_shape
    # Each tenth of the images in each class, give or take chance.
    share = loaded.val.labels.bincount(minlength=10) / loaded.train.labels.bincount(minlength=10)
    assert (share - 1 / 9).abs().max() < 0.02


@pytest.mark.parametrize(
    "size", [4097, 100_000, 10**400, 10**5000], ids=["4097", "1e5", "1e400", ""]
)
def test_images_are_no_larger_than_a_picture(size):
    with pytest.raises(InputError, match="a whole number of pixels from 1 to 4096, got") as told:
        data.load("digits", image_size=size)
    assert len(str(told.value)) < 150


def test_images_that_the_memory_does_not_hold_are_not_made(monkeypatch):
    monkeypatch.setattr(memory, "machine_memory", lambda: 10**9)
    with pytest.raises(InputError, match="this needs about 1.8 GB .* 1.0 GB; lower `image_size`"):
        data.load("digits", image_size=1000)


def test_images_are_resized_the_same_a_few_at_a_time(digits, monkeypatch):
    whole = data.load("digits", image_size=20)
    monkeypatch.setattr(loading, "CHUNK_BYTES", 50 * 4 * 784)
    few = data.load("digits", image_size=20)
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * 20 * 20 * 1000)  # into a file
    mapped = data.load("digits", image_size=20)
    for part in ("train", "val", "test"):
        images = adapted(getattr(digits, part).images, 20, grey=False)
        for other in (whole, few, mapped):
            assert getattr(other, part).images.equal(images)
