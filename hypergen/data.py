"""Data sets: images in memory, the same fixed splits for every run."""

import os
import socket
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hypergen.augment import crop_and_flip
from hypergen.errors import InputError, nearest
from hypergen.lock import locked


@dataclass(frozen=True)
class Split:
    """Labelled images, all in memory.

    images: uint8 [N,C,H,W]; labels: int64 [N]; both on one device.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The chosen images as float32 [B,C,H,W] in [0,1], and their labels int64 [B]."""
        if isinstance(indices, Tensor):
            indices = indices.to(self.images.device)
        return self.images[indices].float() / 255, self.labels[indices]

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images (all, if there are fewer) and labels, as `batch` gives them."""
        return self.batch(slice(_checked(count)))

    def head(self, count: int) -> "Split":
        """The first `count` images (all, if there are fewer) as a split of their own."""
        return Split(self.images[: _checked(count)], self.labels[:count])

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random batch of `count` different images (all, if there are fewer) and labels."""
        order = torch.randperm(len(self), generator=rng, device=rng.device)
        return self.batch(order[: _checked(count)])

    def batches(
        self, size: int, rng: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass in batches of at most `size`, in order, or shuffled by `rng`."""
        order = torch.arange(len(self))
        if rng is not None:
            order = torch.randperm(len(self), generator=rng, device=rng.device)
        for indices in order.split(_checked(size)):
            yield self.batch(indices)

    def to(self, device: torch.device | str) -> "Split":
        """The same split on `device`."""
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set by name.

    input_shape: (C,H,W); epsilon: the usual Linf threat in [0,1];
    train and val: the training part, 90/10; test: the official test part, in its file order;
    crop: pixels by which training images are usually moved at random; flip: whether mirrored.

    Once there is one a GPU keeps all bits of float32, in the whole process: PyTorch would round
    what convolutions multiply to 10 bits (TF32), and with it whatever is measured on these images.
    """

    name: str
    num_classes: int
    input_shape: tuple[int, int, int]
    epsilon: float
    train: Split
    val: Split
    test: Split
    crop: int = 0
    flip: bool = False

    def __post_init__(self) -> None:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False

    def augmented(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Training images [B,C,H,W] as networks trained on this data set usually see them."""
        return crop_and_flip(images, self.crop, self.flip, rng) if self.crop else images

    def calibration_images(self, count: int) -> Tensor:
        """The first `count` training images [N,C,H,W] to measure batch-norm statistics on.

        Augmented, always alike: a network's statistics are those of what it is trained on.
        """
        return self.augmented(self.train.first(count)[0], torch.Generator().manual_seed(0))


NUM_CLASSES = 10
PATIENCE_SECONDS = 3600.0
"""How long a process waits for another one that downloads the same files."""

# name: (input_shape, epsilon)
_KNOWN = {
    "digits": ((1, 28, 28), 0.1),
    "mnist": ((1, 28, 28), 0.1),
    "fashion-mnist": ((1, 28, 28), 0.1),
    "cifar10": ((3, 32, 32), 8 / 255),
    "svhn": ((3, 32, 32), 8 / 255),
}
# name: (crop, flip); a mirrored digit is none
_AUGMENTED = {"cifar10": (4, True), "svhn": (4, False)}


def names() -> list[str]:
    """The names that `load` knows."""
    return list(_KNOWN)


def image_shape(name: str) -> tuple[int, int, int]:
    """(C,H,W) of a data set's images."""
    return _KNOWN[name][0]


def default_epsilon(name: str) -> float:
    """The usual Linf threat on a data set, in [0,1]. InputError: unknown name."""
    return _known(name)[1]


def load(name: str, data_dir: Path | None = None, device: torch.device | str = "cpu") -> Dataset:
    """A data set with its fixed splits, on `device`.

    data_dir: a torchvision root folder; None means HYPERGEN_DATA, else ~/.cache/hypergen. Missing
    files are downloaded there; `digits` needs none. InputError: unknown name, files that are
    damaged, or missing and not to be downloaded.
    """
    input_shape, epsilon = _known(name)
    if name == "digits":
        training, test = _digits()
    else:
        folder = Path(data_dir or os.environ.get("HYPERGEN_DATA") or "~/.cache/hypergen")
        training, test = _from_files(name, folder.expanduser())
    order = _permutation(len(training))
    cut = len(training) - len(training) // 10
    crop, flip = _AUGMENTED.get(name, (0, False))
    return Dataset(
        name=name,
        num_classes=NUM_CLASSES,
        input_shape=input_shape,
        epsilon=epsilon,
        train=_subset(training, order[:cut]).to(device),
        val=_subset(training, order[cut:]).to(device),
        test=test.to(device),
        crop=crop,
        flip=flip,
    )


def _known(name: str) -> tuple[tuple[int, int, int], float]:
    if name not in _KNOWN:
        raise InputError(
            f'unknown data set "{name}"{nearest(name, _KNOWN)}; known: {", ".join(_KNOWN)}'
        )
    return _KNOWN[name]


def _digits() -> tuple[Split, Split]:
    # Imported here, as torchvision below: each takes a second that other commands need not spend.
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = torch.as_tensor(pixels).float().view(-1, 1, 8, 8) * (255 / 16)
    images = torch.nn.functional.interpolate(images, size=(28, 28), mode="bilinear")
    whole = Split(images.round().to(torch.uint8), torch.as_tensor(labels).long())
    # Every n-th of the digits sorted by class, shuffled within each: as many of each class as fit.
    order = _permutation(len(whole))
    order = order[whole.labels[order].argsort(stable=True)]
    is_test = torch.zeros(len(whole), dtype=torch.bool)
    is_test[order[torch.linspace(0, len(whole) - 1, 500).long()]] = True
    return _subset(whole, ~is_test), _subset(whole, is_test)


def _from_files(name: str, folder: Path) -> tuple[Split, Split]:
    try:
        return _read(name, folder, download=False)
    except Exception as error:  # torchvision's readers raise anything at all on damaged files
        if not isinstance(error, RuntimeError) or "not found" not in str(error):
            raise InputError(
                f"{name}: unreadable files in {folder} ({_line(error)}); "
                "delete them to have them downloaded again, or use --dataset digits"
            ) from error
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; torchvision sets none and would wait for ever
    try:
        with locked(folder, PATIENCE_SECONDS):  # two at once would write into the same files
            return _read(name, folder, download=True)
    except Exception as error:  # no network, no such address, no space, no permission, ...
        raise InputError(
            f"{name}: files missing or damaged in {folder}, downloading failed ({_line(error)}); "
            "name a torchvision data folder by --data-dir or HYPERGEN_DATA, "
            "or use --dataset digits, which needs no download"
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _read(name: str, folder: Path, download: bool) -> tuple[Split, Split]:
    from torchvision import datasets

    splits = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about the numpy version that wrote the CIFAR-10 files
        for train in (True, False):
            if name == "svhn":
                part = datasets.SVHN(folder, "train" if train else "test", download=download)
                images, labels = torch.from_numpy(part.data), part.labels
            elif name == "cifar10":
                part = datasets.CIFAR10(folder, train, download=download)
                images, labels = torch.from_numpy(part.data).permute(0, 3, 1, 2), part.targets
            else:
                reader = datasets.MNIST if name == "mnist" else datasets.FashionMNIST
                part = reader(folder, train, download=download)
                images, labels = part.data[:, None], part.targets
            splits.append(Split(images.contiguous(), torch.as_tensor(labels).long()))
    for split in splits:
        count, classes = len(split), int(split.labels.max()) + 1
        if split.images.shape != (count, *_KNOWN[name][0]) or classes > 10:
            raise ValueError(
                f"images {list(split.images.shape)} and {count} labels of {classes} classes"
            )
    return splits[0], splits[1]


def _permutation(count: int) -> Tensor:
    # numpy promises never to change what this old generator gives for a seed; torch does not.
    return torch.from_numpy(np.random.RandomState(0).permutation(count))


def _subset(split: Split, indices: Tensor) -> Split:
    return Split(split.images[indices], split.labels[indices])


def _checked(count: int) -> int:
    if count < 1:
        raise InputError(f"a number of images must be at least 1, not {count}")
    return count


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
