import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torchvision import datasets

from hypergen import data
from hypergen.errors import InputError
from hypergen.lock import locked


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load("digits")


@pytest.fixture
def offline(monkeypatch):
    def refuse(*args, **kwargs):
        raise URLError("no network")

    for module in (datasets.mnist, datasets.cifar):
        monkeypatch.setattr(module, "download_and_extract_archive", refuse)
    monkeypatch.setattr(datasets.svhn, "download_url", refuse)


def test_what_is_measured_on_a_gpu_keeps_all_bits():
    switches = torch.backends.cudnn, torch.backends.cuda.matmul
    for switch in switches:
        switch.allow_tf32 = True
    data.load("digits")
    assert [switch.allow_tf32 for switch in switches] == [False, False]


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


def test_digits_splits_share_no_image(digits):
    rows = torch.cat([s.images.flatten(1) for s in (digits.train, digits.val, digits.test)])
    assert len(rows) == len(rows.unique(dim=0)) == 1797


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


def test_unknown_name_gets_the_nearest():
    for ask in (data.load, data.default_epsilon):
        with pytest.raises(InputError, match='did you mean "fashion-mnist"'):
            ask("fashion_mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "svhn"])
def test_missing_files_say_what_to_do(name, tmp_path, offline):
    with pytest.raises(InputError) as caught:
        data.load(name, tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (name, str(tmp_path), "--data-dir", "HYPERGEN_DATA", "--dataset digits"):
        assert part in message
    assert socket.getdefaulttimeout() is None


def test_the_folder_falls_back_to_the_environment(tmp_path, offline, monkeypatch):
    monkeypatch.setenv("HYPERGEN_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="elsewhere"):
        data.load("mnist")


def idx(kind: int, array: np.ndarray) -> bytes:
    return b"".join(
        [bytes([0, 0, kind, array.ndim]), np.array(array.shape, ">i4").tobytes(), array.tobytes()]
    )


def write_mnist(folder: Path, images: bytes, labels: bytes) -> None:
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(images)
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(labels)


WHOLE = idx(8, np.zeros((20, 28, 28), np.uint8))
LABELS = idx(8, np.arange(20, dtype=np.uint8) % 10)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (WHOLE[:1000], LABELS),
        (b"", LABELS),
        (b"not an idx file at all", LABELS),
        (idx(8, np.zeros((20, 8, 8), np.uint8)), LABELS),
        (WHOLE, idx(8, np.zeros(19, np.uint8))),
        (WHOLE, idx(8, np.full(20, 200, np.uint8))),
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
    assert (tmp_path / "old" / "kept").exists()


def test_what_another_process_downloads_is_waited_for(tmp_path, offline):
    with ThreadPoolExecutor(1) as pool:
        with locked(tmp_path):
            loading = pool.submit(data.load, "mnist", tmp_path)
            with pytest.raises(TimeoutError):
                loading.result(timeout=0.5)
            write_mnist(tmp_path, WHOLE, LABELS)
        assert len(loading.result().test) == 20


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
    assert (len(loaded.train), len(loaded.val), len(loaded.test)) == sizes
    assert loaded.test.labels[:8].tolist() == first_test_labels
    assert loaded.test.images.shape[1:] == loaded.input_shape
    # Each tenth of the images in each class, give or take chance.
    share = loaded.val.labels.bincount(minlength=10) / loaded.train.labels.bincount(minlength=10)
    assert (share - 1 / 9).abs().max() < 0.02
