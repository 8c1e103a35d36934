import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from hypergen import data
from hypergen.errors import InputError
from tests.hypergen.data.files import content, idx, splits, write_mnist

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 28, 28))


def loaded(kind: str, folder: Path, **options) -> data.Dataset:
    return data.load(f"torchvision:{kind}", folder, **options)


def refusal(kind: str, folder: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        loaded(kind, folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def put(monkeypatch, kind: str, reader: type) -> None:
    monkeypatch.setattr(datasets, kind, reader, raising=False)
    monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, kind))


class Items:
    """Pictures with labels, as torchvision's data sets hold them."""

    classes = ["ant", "bee", "cow"]

    def __init__(self, mode: str = "RGB", seed: int = 0, count: int = 30, sizes=(8,)):
        rng = np.random.default_rng(seed)
        self.items = [
            (Image.fromarray(pixels).convert(mode).resize((size, size)), row % 3)
            for row, size in zip(range(count), sizes * count, strict=False)
            for pixels in [rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)]
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, row: int):
        return self.items[row]

    def content(self) -> list[tuple[int, bytes]]:
        pixels = np.stack(
            [np.atleast_3d(np.asarray(image)).transpose(2, 0, 1) for image, _ in self.items]
        )
        labels = torch.tensor([label for _, label in self.items])
        return content(data.Split(torch.from_numpy(pixels), labels))


class ByTrain(Items):
    def __init__(self, root, train=True, transform=None, download=False):
        super().__init__(seed=int(train), count=60 if train else 30)


class BySplit(Items):
    def __init__(self, root, split="train", download=False):
        assert split in ("train", "test")
        super().__init__(seed=int(split == "train"), count=60 if split == "train" else 30)


class Whole(Items):
    def __init__(self, root, download=False):
        super().__init__("L")


@pytest.mark.parametrize("reader", [ByTrain, BySplit])
def test_both_forms_of_parts(reader, tmp_path, monkeypatch):
    put(monkeypatch, "Fake", reader)
    fake = loaded("Fake", tmp_path)
    assert (fake.name, fake.class_names) == ("torchvision:Fake", ("ant", "bee", "cow"))
    assert (fake.input_shape, fake.epsilon, fake.info.crop) == ((3, 8, 8), None, 0)
    assert content(fake.train, fake.val) == Items(seed=1, count=60).content()
    assert content(fake.test) == Items(seed=0).content()
    assert fake.val.labels.bincount().tolist() == [2, 2, 2]


@pytest.mark.parametrize("kind", ["first", "last", "tensor", "other"])
@pytest.mark.parametrize("labels", ["targets", "labels"])
def test_arrays_are_taken_where_they_are_the_items(kind, labels, tmp_path, monkeypatch):
    class Fake(Items):
        def __init__(self, root, download=False):
            super().__init__("L" if kind == "tensor" else "RGB")
            pixels = np.stack([np.asarray(image) for image, _ in self.items])
            self.data = {
                "first": pixels.transpose(0, 3, 1, 2) if kind == "first" else None,
                "last": pixels,
                "tensor": torch.from_numpy(pixels),
                "other": 255 - pixels,
            }[kind]
            setattr(self, labels, [label for _, label in self.items])

        def __getitem__(self, row: int):
            asked.add(row)
            return super().__getitem__(row)

    put(monkeypatch, "Fake", Fake)
    asked: set[int] = set()
    fake = loaded("Fake", tmp_path)
    assert content(*splits(fake).values()) == Items("L" if kind == "tensor" else "RGB").content()
    assert len(asked) == (30 if kind == "other" else 3)


def test_a_set_without_parts_is_divided(tmp_path, monkeypatch):
    put(monkeypatch, "Fake", Whole)
    fake = loaded("Fake", tmp_path)
    assert fake.input_shape == (1, 8, 8)
    assert content(*splits(fake).values()) == Items("L").content()
    assert [len(split) for split in splits(fake).values()] == [21, 3, 6]


def test_size_and_grey(tmp_path, monkeypatch):
    class Mixed(Items):
        def __init__(self, root, download=False):
            super().__init__(sizes=(8, 12))

    put(monkeypatch, "Fake", Mixed)
    message = refusal("Fake", tmp_path)
    assert "differ in size" in message and "`image_size`" in message
    assert loaded("Fake", tmp_path, image_size=9).input_shape == (3, 9, 9)
    assert loaded("Fake", tmp_path, image_size=9, grey=True).input_shape == (1, 9, 9)


def test_colours_after_grey_ones_need_grey(tmp_path, monkeypatch):
    class Mixed(Items):
        def __init__(self, root, download=False):
            super().__init__()
            self.items[0] = (self.items[0][0].convert("L"), 0)

    put(monkeypatch, "Fake", Mixed)
    assert "item 1 is no image" in (message := refusal("Fake", tmp_path)) and "`grey`" in message
    assert loaded("Fake", tmp_path, grey=True).input_shape == (1, 8, 8)


@pytest.mark.parametrize("item", [3, (3, 3), (Image.new("L", (8, 8)), [1, 2]), None])
def test_what_is_no_classification_set_is_told(item, tmp_path, monkeypatch):
    class Odd(Items):
        def __init__(self, root, download=False):
            super().__init__()
            self.items[4] = item

    put(monkeypatch, "Fake", Odd)
    assert "torchvision:Fake: item 4 is no image with a class" in refusal("Fake", tmp_path)


@pytest.mark.parametrize("kind", ["KMNIST", "QMNIST"])
def test_files_of_mnists_format(kind, tmp_path, offline):
    labels = np.arange(30) % 3
    if kind == "QMNIST":
        raw = tmp_path / "QMNIST" / "raw"
        raw.mkdir(parents=True)
        wide = np.zeros((30, 8), ">i4")
        wide[:, 0] = labels
        head = bytes([0, 0, 12, 2]) + np.array(wide.shape, ">i4").tobytes()
        for part in ("train", "test"):
            (raw / f"qmnist-{part}-images-idx3-ubyte").write_bytes(idx(PIXELS))
            (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(head + wide.tobytes())
    else:
        write_mnist(tmp_path, idx(PIXELS), idx(labels), kind)
    own = loaded(kind, tmp_path)
    images = torch.from_numpy(PIXELS.astype(np.uint8))[:, None]
    expected = content(data.Split(images, torch.from_numpy(labels)))
    assert content(own.train, own.val) == content(own.test) == expected


def test_emnist_is_its_balanced_split(tmp_path, offline):
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    pixels, labels = np.resize(PIXELS, (94, 28, 28)), np.arange(94) % 47
    for part in ("train", "test"):
        (raw / f"emnist-balanced-{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        (raw / f"emnist-balanced-{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    letters = loaded("EMNIST", tmp_path)
    assert letters.num_classes == 47 and letters.class_names[10] == "A"


def test_missing_files_say_what_to_do(tmp_path, offline):
    for kind in ("KMNIST", "CIFAR100", "USPS"):
        message = refusal(kind, tmp_path / "new")
        for part in (f"torchvision:{kind}", "downloading failed", "`data_dir`", "HYPERGEN_DATA"):
            assert part in message
        assert not any(tmp_path.iterdir())


def test_damaged_files_are_told(tmp_path, offline):
    write_mnist(tmp_path, b"damaged", idx(np.arange(30)), "KMNIST")
    assert "torchvision:KMNIST: unreadable files in" in refusal("KMNIST", tmp_path)


def test_names_that_cannot_be_loaded(tmp_path):
    assert 'did you mean "KMNIST"?' in refusal("KMINST", tmp_path)
    assert "no data set" in refusal("", tmp_path)
    for kind in ("FakeData", "CocoDetection", "wrap_dataset_for_transforms_v2"):
        assert f"torchvision:{kind} cannot be read" in refusal(kind, tmp_path)


@pytest.mark.skipif("HYPERGEN_DATA" not in os.environ, reason="HYPERGEN_DATA is not set")
def test_real_files_of_another_set(tmp_path):
    """Fashion-MNIST by torchvision's name holds the images that it holds by ours."""
    source = Path(os.environ["HYPERGEN_DATA"]) / "FashionMNIST"
    if not source.exists():
        pytest.skip("no Fashion-MNIST there")
    shutil.copytree(source, tmp_path / "FashionMNIST")
    theirs, ours = loaded("FashionMNIST", tmp_path), data.load("fashion-mnist")
    assert theirs.class_names == ours.class_names
    assert content(theirs.test) == content(ours.test)
