"""Loads the data sets that hypergen knows by a name of their own."""

import socket
import warnings
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from hypergen.data.dataset import Dataset, DatasetInfo, Split
from hypergen.data.splitting import permutation
from hypergen.data.wording import one_line
from hypergen.errors import InputError
from hypergen.storage.lock import locked

PATIENCE_SECONDS = 3600.0
"""How long a process waits for another one that downloads the same files."""

T = TypeVar("T")
NUMBERS = tuple("0123456789")
CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
OBJECTS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
GREY, COLOUR = (1, 28, 28), (3, 32, 32)
INFOS = {
    info.name: info
    for info in (
        DatasetInfo("digits", GREY, NUMBERS, 0.1),
        DatasetInfo("mnist", GREY, NUMBERS, 0.1),
        DatasetInfo("fashion-mnist", GREY, CLOTHES, 0.1),
        DatasetInfo("cifar10", COLOUR, OBJECTS, 8 / 255, crop=4, flip=True),
        DatasetInfo("svhn", COLOUR, NUMBERS, 8 / 255, crop=4),  # a mirrored digit is none
    )
}


def digits() -> Dataset:
    """scikit-learn's digits, enlarged to 28 x 28: 1797 grey images, comes with the package."""
    pixels, labels = scikit_learn_digits()
    images = torch.as_tensor(pixels).float().view(-1, 1, 8, 8) * (255 / 16)
    images = torch.nn.functional.interpolate(images, size=(28, 28), mode="bilinear")
    whole = Split(images.round().to(torch.uint8), torch.as_tensor(labels).long())
    # Every n-th of the digits sorted by class, shuffled within each: as many of each class as fit.
    order = torch.from_numpy(permutation(len(whole)))
    order = order[whole.labels[order].argsort(stable=True)]
    is_test = torch.zeros(len(whole), dtype=torch.bool)
    is_test[order[torch.linspace(0, len(whole) - 1, 500).long()]] = True
    return _divided(INFOS["digits"], _subset(whole, ~is_test), _subset(whole, is_test))


def scikit_learn_digits() -> tuple[np.ndarray, np.ndarray]:
    """What scikit-learn's `load_digits` gives: pixels [1797,64] from 0 to 16, and labels [1797].

    Its file is read without it, for to import scikit-learn takes seconds.
    """
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None
    file = Path(package.origin).with_name("datasets") / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",")
    return rows[:, :-1], rows[:, -1]


def mnist(data_dir: Path) -> Dataset:
    """Handwritten digits (LeCun et al. 1998): 70000 grey images of 28 x 28."""
    return _from_files("mnist", data_dir)


def fashion_mnist(data_dir: Path) -> Dataset:
    """Clothes (Xiao et al. 2017): 70000 grey images of 28 x 28."""
    return _from_files("fashion-mnist", data_dir)


def cifar10(data_dir: Path) -> Dataset:
    """Animals and vehicles (Krizhevsky 2009): 60000 colour images of 32 x 32."""
    return _from_files("cifar10", data_dir)


def svhn(data_dir: Path) -> Dataset:
    """House numbers (Netzer et al. 2011): 99289 colour images of 32 x 32."""
    return _from_files("svhn", data_dir)


MAKERS: dict[str, Callable[..., Any]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar10": cifar10,
    "svhn": svhn,
}


def fetched(name: str, folder: Path, read: Callable[[bool], T]) -> T:
    """What `read` gives: of files that are there, else of files that it downloads.

    read: takes whether to download. Of two processes that would, one waits for the other.
    `InputError`: files that are damaged, or missing and not to be downloaded.
    """
    try:
        return read(False)
    except Exception as error:  # torchvision's readers raise anything at all on damaged files
        missing = isinstance(error, RuntimeError) and "not found" in str(error)
        if not missing and not isinstance(error, FileNotFoundError):
            raise InputError(
                f"{name}: unreadable files in {folder} ({one_line(error)}); delete them to have "
                'them downloaded again, or use the data set "digits"'
            ) from error
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(10)  # seconds; torchvision sets none and would wait for ever
    try:
        with locked(folder, PATIENCE_SECONDS):  # two at once would write into the same files
            return read(True)
    except Exception as error:  # no network, no such address, no space, no permission, ...
        raise InputError(
            f"{name}: files missing or damaged in {folder}, downloading failed "
            f"({one_line(error)}); name a torchvision data folder by `data_dir` or HYPERGEN_DATA, "
            'or use the data set "digits", which needs no download'
        ) from error
    finally:
        socket.setdefaulttimeout(timeout)


def _from_files(name: str, folder: Path) -> Dataset:
    return _divided(INFOS[name], *fetched(name, folder, partial(_read, name, folder)))


def _read(name: str, folder: Path, download: bool) -> tuple[Split, Split]:
    from torchvision import datasets  # here, for it takes a second that other commands save

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
        if split.images.shape != (count, *INFOS[name].input_shape) or classes > 10:
            raise ValueError(
                f"images {list(split.images.shape)} and {count} labels of {classes} classes"
            )
    return splits[0], splits[1]


def _divided(info: DatasetInfo, training: Split, test: Split) -> Dataset:
    """The data set, with the last tenth of its mixed training images for validation."""
    order = torch.from_numpy(permutation(len(training)))
    cut = len(training) - len(training) // 10
    return Dataset(info, _subset(training, order[:cut]), _subset(training, order[cut:]), test)


def _subset(split: Split, indices: Tensor) -> Split:
    return Split(split.images[indices], split.labels[indices])
