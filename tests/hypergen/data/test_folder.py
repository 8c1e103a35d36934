import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from hypergen import data
from hypergen.data import memory, splitting
from hypergen.data.memory import room
from hypergen.errors import InputError
from tests.hypergen.data.files import content, splits, write_folder

COUNTS = {"cat": 20, "dog": 40, "a b=c:é\n": 10}


def load(folder: Path, **options) -> data.Dataset:
    return data.load(f"folder:{folder}", **options)


def refusal(folder: Path, **options) -> str:
    """What a user is told, in one line."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        load(folder, **options)
    assert "\n" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before
    return str(caught.value)


def expected(pixels: torch.Tensor, counts: dict[str, int]) -> list[tuple[int, bytes]]:
    names = sorted(counts)
    labels = [names.index(name) for name, count in counts.items() for _ in range(count)]
    return content(data.Split(pixels.contiguous(), torch.tensor(labels)))


@pytest.mark.parametrize("channels", [1, 3])
def test_what_was_written_is_loaded_in_stratified_parts(tmp_path, channels):
    pixels = write_folder(tmp_path, COUNTS, channels=channels)
    pets = load(tmp_path)
    assert pets.name == f"folder:{tmp_path}" and pets.class_names == tuple(sorted(COUNTS))
    assert pets.input_shape == (channels, 8, 8)
    assert (pets.epsilon, pets.info.crop, pets.info.flip) == (None, 0, False)
    assert content(*splits(pets).values()) == expected(pixels, COUNTS)
    sizes = {part: split.labels.bincount().tolist() for part, split in splits(pets).items()}
    # Of 10, 20 and 40 images a fifth is for the test, and a tenth of the rest for validation.
    assert sizes == {"train": [7, 14, 29], "val": [1, 2, 3], "test": [2, 4, 8]}
    # Classes come mixed, for what is measured on the first images alone.
    assert len(pets.test.labels[:7].unique()) > 1


def test_parts_are_the_same_each_time_and_in_any_order_of_files(tmp_path, monkeypatch):
    write_folder(tmp_path, COUNTS)
    first = splits(load(tmp_path))
    whole = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda self: reversed(list(whole(self))))
    again = splits(load(tmp_path))
    for part, split in first.items():
        assert split.images.equal(again[part].images) and split.labels.equal(again[part].labels)


def test_given_parts_are_kept(tmp_path):
    train = write_folder(tmp_path / "train", {"x": 30, "y": 20}, seed=1)
    test = write_folder(tmp_path / "test", {"y": 3, "x": 2}, seed=2)
    two = load(tmp_path)
    assert content(two.train, two.val) == expected(train, {"x": 30, "y": 20})
    assert content(two.test) == expected(test, {"y": 3, "x": 2})
    assert two.val.labels.bincount().tolist() == [3, 2]
    val = write_folder(tmp_path / "val", {"x": 1}, seed=3)
    three = load(tmp_path)
    assert content(three.train) == expected(train, {"x": 30, "y": 20})
    assert content(three.val) == expected(val, {"x": 1})
    assert content(three.test) == content(two.test)


def test_a_class_may_be_called_train(tmp_path):
    write_folder(tmp_path, {"train": 10, "car": 10})
    assert load(tmp_path).class_names == ("car", "train")


def test_hidden_files_and_loose_files_beside_classes_do_not_count(tmp_path):
    write_folder(tmp_path, {"x": 10, "y": 10})
    before = content(*splits(load(tmp_path)).values())
    (tmp_path / "x" / ".DS_Store").write_bytes(b"no image")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "README.txt").write_text("about")
    assert content(*splits(load(tmp_path)).values()) == before


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ({"a": 10, "b": 10}, (14, 2, 4)),
        ({"a": 17, "b": 3}, (13, 2, 4)),
        ({"a": 19, "b": 1}, (14, 2, 4)),
        ({str(n): 2 for n in range(10)}, (10, 5, 5)),
    ],
)
def test_twenty_images_are_enough(tmp_path, counts, sizes):
    write_folder(tmp_path, counts)
    small = load(tmp_path)
    assert len(small.train.labels.unique()) == len(counts)
    assert sum(map(len, splits(small).values())) == 20
    if "b" not in counts or counts["b"] != 3:
        assert tuple(map(len, splits(small).values())) == sizes


def test_one_image_a_class_cannot_be_divided(tmp_path):
    write_folder(tmp_path, {str(n): 1 for n in range(20)})
    assert "no image is left for val" in refusal(tmp_path)


def write_classes(folder: Path, images: dict[str, Image.Image], suffix: str = "png") -> None:
    """Each picture ten times, in a class of its own."""
    for name, image in images.items():
        (folder / name).mkdir(parents=True)
        for number in range(10):
            image.save(folder / name / f"{number}.{suffix}")


def of_class(dataset: data.Dataset, label: int) -> np.ndarray:
    (image,) = dataset.train.images[dataset.train.labels == label].unique(dim=0)
    return image.numpy()


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    values = np.array([[0, 128, 129], [257, 32768, 65535]], np.uint16)
    write_classes(tmp_path, {"a": Image.fromarray(values), "b": Image.new("L", (3, 2), 7)})
    both = load(tmp_path)
    assert both.input_shape == (1, 2, 3)
    assert of_class(both, 0).tolist() == [[[0, 0, 1], [1, 128, 255]]]  # v / 257, rounded
    assert of_class(both, 1).tolist() == [[[7] * 3] * 2]


def test_floats_are_rounded_and_refused_outside_0_to_1(tmp_path):
    values = np.array([[0, 0.5, 1]], np.float32)
    write_classes(tmp_path, {"a": Image.fromarray(values), "b": Image.new("L", (3, 1))}, "tiff")
    assert of_class(load(tmp_path), 0).tolist() == [[[0, 128, 255]]]
    Image.fromarray(values * 2).save(tmp_path / "a" / "3.tiff")
    assert "3.tiff: unreadable image (ValueError: its floats" in refusal(tmp_path)


def test_what_is_transparent_is_white(tmp_path):
    colours = [(200, 100, 50, 255), (200, 100, 50, 0), (0, 0, 0, 51)]
    image = Image.new("RGBA", (3, 1))
    image.putdata(colours)
    palette = Image.new("P", (3, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putdata([0, 1, 0])
    write_classes(tmp_path, {"a": image, "b": Image.new("LA", (3, 1), (9, 255))})
    (tmp_path / "c").mkdir()
    for number in range(10):
        palette.save(tmp_path / "c" / f"{number}.png", transparency=1)
    all_three = load(tmp_path)
    # Opaque, clear, and black of 51/255 on white: 255 - 51.
    assert of_class(all_three, 0).T.tolist() == [[[200, 100, 50]], [[255] * 3], [[204] * 3]]
    assert of_class(all_three, 1).T.tolist() == [[[9] * 3]] * 3
    assert of_class(all_three, 2).T.tolist() == [[[10, 20, 30]], [[255] * 3], [[10, 20, 30]]]


def test_grey_ones_among_colours_become_colours(tmp_path):
    write_classes(tmp_path, {"a": Image.new("RGB", (4, 4), (255, 0, 0))}, "jpg")
    write_classes(tmp_path, {"b": Image.new("L", (4, 4), 9), "c": Image.new("1", (4, 4), 1)})
    mixed = load(tmp_path)
    assert mixed.input_shape == (3, 4, 4)
    assert of_class(mixed, 1).tolist() == [[[9] * 4] * 4] * 3
    assert of_class(mixed, 2).tolist() == [[[255] * 4] * 4] * 3
    grey = load(tmp_path, grey=True)
    assert grey.input_shape == (1, 4, 4)
    assert of_class(grey, 1).tolist() == [[[9] * 4] * 4]
    assert 75 <= of_class(grey, 0).min() <= of_class(grey, 0).max() <= 77  # 0.299 * 255, in JPEG


@pytest.mark.parametrize("form", ["BMP", "GIF", "JPEG", "PPM", "TIFF", "WEBP"])
def test_any_format_is_read_whatever_its_name(tmp_path, form):
    for name in "ab":
        (tmp_path / name).mkdir()
        for number in range(10):
            with open(tmp_path / name / f"{number}", "wb") as file:
                Image.new("RGB", (5, 4), (40, 80, 120)).save(file, form)
    pixels = load(tmp_path).train.images.float()
    assert pixels.shape[1:] == (3, 4, 5)
    assert (pixels - torch.tensor([40.0, 80, 120]).view(3, 1, 1)).abs().max() <= 3


def test_sizes_that_differ_need_image_size(tmp_path):
    write_folder(tmp_path, {"x": 10, "y": 10}, size=16)
    pixels = Image.open(tmp_path / "x" / "0000.png").resize((30, 20))
    pixels.save(tmp_path / "y" / "0007.png")
    message = refusal(tmp_path)
    for part in ("0000.png has 16x16", "0007.png 30x20", "`image_size`"):
        assert part in message
    assert load(tmp_path, image_size=16).input_shape == (3, 16, 16)
    assert load(tmp_path, image_size=5, grey=True).input_shape == (1, 5, 5)


def test_resizing_is_close_to_pillows(tmp_path):
    write_folder(tmp_path, {"x": 10, "y": 10}, size=32)
    resized = load(tmp_path, image_size=12)
    theirs = []
    for path in sorted(tmp_path.rglob("*.png")):
        small = Image.open(path).resize((12, 12), Image.Resampling.BILINEAR)
        theirs.append(np.asarray(small).transpose(2, 0, 1).astype(int))
    for image in torch.cat([split.images for split in splits(resized).values()]).numpy():
        # Pillow rounds after each of the two directions.
        assert min(np.abs(image - other).max() for other in theirs) <= 1


def test_from_1_to_4096_pixels_a_side(tmp_path):
    write_folder(tmp_path / "small", {"x": 10, "y": 10}, size=1)
    assert load(tmp_path / "small").input_shape == (3, 1, 1)
    write_folder(tmp_path / "mixed", {"x": 19, "y": 10}, size=1)
    Image.new("RGB", (4096, 4096), (1, 2, 3)).save(tmp_path / "mixed" / "x" / "big.png")
    mixed = load(tmp_path / "mixed", image_size=2)
    colours = torch.cat([split.images for split in splits(mixed).values()])
    assert (colours == torch.tensor([1, 2, 3]).view(3, 1, 1)).all(dim=(1, 2, 3)).sum() == 1


def test_large_folders_are_mapped_to_a_file_that_goes(tmp_path, monkeypatch):
    write_folder(tmp_path / "pets", COUNTS)
    in_memory = splits(load(tmp_path / "pets"))
    kinds = []
    monkeypatch.setattr(splitting, "room", lambda *args: kinds.append(args[-1]) or room(*args))
    load(tmp_path / "pets")
    monkeypatch.setattr(memory, "machine_memory", lambda: 4 * 70 * 192 - 4)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    mapped = splits(load(tmp_path / "pets"))
    assert kinds == [False] * 3 + [True] * 3
    for part, split in mapped.items():
        assert split.images.equal(in_memory[part].images)
        assert split.draw(5, torch.Generator().manual_seed(0))[0].shape == (5, 3, 8, 8)
    assert os.listdir(tmp_path) == ["pets"]


def test_room_is_in_memory_or_in_a_file(monkeypatch):
    dtype = np.dtype(np.float32)
    assert type(room((3, 4), dtype, False)) is np.ndarray
    mapped = room((3, 4), dtype, True)
    assert isinstance(mapped, np.memmap) and mapped.shape == (3, 4) and mapped.dtype == dtype
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=47))
    with pytest.raises(InputError, match="set TMPDIR"):
        room((3, 4), dtype, True)


def test_600_pngs_load_fast(tmp_path):
    write_folder(tmp_path, {"a": 200, "b": 200, "c": 200}, size=64)
    seconds = []
    for _ in range(2):  # the better one, for others may be at work on the machine
        start = time.perf_counter()
        assert len(load(tmp_path).train) == 432
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 2


def test_torchvision_is_imported_only_for_its_own(tmp_path, elsewhere):
    write_folder(tmp_path / "pets", {"x": 10, "y": 10})
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 4, 4), np.uint8), y=np.arange(20) % 2)
    code = "import sys; from hypergen import data\n"
    for name in ("digits", f"folder:{tmp_path}/pets", f"npz:{tmp_path}/x.npz"):
        code += f"data.load({name!r}); assert 'torchvision' not in sys.modules, {name!r}\n"
    elsewhere(code)
