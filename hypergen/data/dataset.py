"""Holds labelled images: a split, and a data set of three splits with what is known of them."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from math import inf
from typing import Any

import torch
from torch import Tensor

from hypergen.data.augmentation import crop_and_flip
from hypergen.data.memory import is_large
from hypergen.data.wording import without_folders
from hypergen.errors import InputError


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set without its images. `InputError`: values of no data set."""

    name: str
    input_shape: tuple[int, int, int]
    """(C,H,W) of an image"""
    class_names: tuple[str, ...]
    """name of each of the K classes, in the order of the labels 0 to K-1"""
    epsilon: float | None = None
    """the usual Linf threat for pixels in [0,1]; None where there is none"""
    crop: int = 0
    """pixels by which training images are usually moved at random"""
    flip: bool = False
    """whether training images are usually mirrored at random"""

    def __post_init__(self) -> None:
        shape, names, epsilon = self.input_shape, self.class_names, self.epsilon
        valid = {
            "name": isinstance(self.name, str),
            "input_shape": isinstance(shape, tuple) and len(shape) == 3 and all(map(_count, shape)),
            "class_names": isinstance(names, tuple)
            and len(names) >= 2
            and all(isinstance(name, str) for name in names),
            "epsilon": epsilon is None or (type(epsilon) in (int, float) and 0 <= epsilon < inf),
            "crop": self.crop == 0 or _count(self.crop),
            "flip": isinstance(self.flip, bool),
        }
        for name, fits in valid.items():
            if not fits:
                raise InputError(f"no data set has `{name}` {getattr(self, name)!r:.200}")

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.class_names)

    def to_json(self) -> dict[str, Any]:
        """The same in numbers, strings, lists and one dict, for a JSON file."""
        shape, names = list(self.input_shape), list(self.class_names)
        return asdict(self) | {"input_shape": shape, "class_names": names}

    @classmethod
    def from_json(cls, tree: Any) -> "DatasetInfo":
        """What `to_json` gave. `InputError`: anything else."""
        names = {field.name for field in fields(cls)}
        if not isinstance(tree, dict) or set(tree) != names:
            raise InputError(f"a data set is described by {', '.join(sorted(names))} alone")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in tree.items()
        }
        return cls(**values)


@dataclass(frozen=True)
class Split:
    """Labelled images.

    images: [N,C,H,W], uint8, or float32 in [0,1]; in memory, or mapped to a file, on the CPU then.
    labels: int64 [N], on the device that batches are on.

    Raises:
        InputError: tensors of another form.
    """

    images: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim != 4 or images.dtype not in (torch.uint8, torch.float32):
            raise InputError(
                f"the images of a split must be uint8 or float32 [N,C,H,W], got {_form(images)}"
            )
        if labels.shape != images.shape[:1] or labels.dtype != torch.int64:
            raise InputError(
                f"the labels of {len(images)} images must be int64 [{len(images)}], "
                f"got {_form(labels)}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor | slice) -> tuple[Tensor, Tensor]:
        """The chosen images as float32 [B,C,H,W] in [0,1], and their labels int64 [B]."""
        if isinstance(indices, Tensor):
            images = self.images[indices.to(self.images.device)]
            labels = self.labels[indices.to(self.labels.device)]
        else:
            images, labels = self.images[indices], self.labels[indices]
        images = images.to(labels.device)
        return images.float() / 255 if images.dtype == torch.uint8 else images.clone(), labels

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images (all, if there are fewer) and labels, as `batch` gives them."""
        return self.batch(slice(_positive(count)))

    def head(self, count: int) -> "Split":
        """The first `count` images (all, if there are fewer) as a split of their own."""
        return Split(self.images[: _positive(count)], self.labels[:count])

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """A random batch of `count` different images (all, if there are fewer) and labels."""
        order = torch.randperm(len(self), generator=rng, device=rng.device)
        return self.batch(order[: _positive(count)])

    def batches(
        self, size: int, rng: torch.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One pass in batches of at most `size`, in order, or shuffled by `rng`."""
        order = torch.arange(len(self))
        if rng is not None:
            order = torch.randperm(len(self), generator=rng, device=rng.device)
        for indices in order.split(_positive(size)):
            yield self.batch(indices)

    def to(self, device: torch.device | str) -> "Split":
        """The same split with its batches on `device`.

        Its images are there too, unless they are larger than a quarter of the machine's memory.
        """
        images = self.images if is_large(self.images.nbytes) else self.images.to(device)
        return Split(images, self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set by name, in three parts that share no image.

    train and val: the training part, about 90/10; test: what is only measured on.

    Raises:
        InputError: images of another shape than `info` says, an empty split, or a label beyond the
            classes.
    """

    info: DatasetInfo
    train: Split
    val: Split
    test: Split

    def __post_init__(self) -> None:
        for part in ("train", "val", "test"):
            split: Split = getattr(self, part)
            shape, known = tuple(split.images.shape[1:]), self.info.num_classes
            if shape != self.input_shape:
                raise InputError(f"images of {part} are {shape}, expected {self.input_shape}")
            if not len(split):
                raise InputError(f"there is no image in {part}")
            if split.labels.min() < 0 or split.labels.max() >= known:
                raise InputError(f"a label of {part} is outside 0 to {known - 1}")

    @property
    def name(self) -> str:
        """What it is loaded by."""
        return self.info.name

    @property
    def title(self) -> str:
        """The same for others to read, who need not know in which folder it lies."""
        return without_folders(self.name)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return self.info.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, in the order of the labels."""
        return self.info.class_names

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C,H,W) of an image."""
        return self.info.input_shape

    @property
    def epsilon(self) -> float | None:
        """The usual Linf threat for pixels in [0,1]; None where there is none."""
        return self.info.epsilon

    @property
    def device(self) -> torch.device:
        """Where batches are."""
        return self.train.labels.device

    def to(self, device: torch.device | str) -> "Dataset":
        """The same data set with its batches on `device`."""
        parts = (split.to(device) for split in (self.train, self.val, self.test))
        return Dataset(self.info, *parts)

    def augmented(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Training images [B,C,H,W] as networks trained on this data set usually see them."""
        crop, flip = self.info.crop, self.info.flip
        return crop_and_flip(images, crop, flip, rng) if crop or flip else images

    def calibration_images(self, count: int) -> Tensor:
        """The first `count` training images [N,C,H,W] to measure batch-norm statistics on.

        Augmented, always alike: a network's statistics are those of what it is trained on.
        """
        return self.augmented(self.train.first(count)[0], torch.Generator().manual_seed(0))


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


def _count(value: Any) -> bool:
    return type(value) is int and value >= 1


def _positive(count: int) -> int:
    if count < 1:
        raise InputError(f"a number of images must be at least 1, not {count}")
    return count
