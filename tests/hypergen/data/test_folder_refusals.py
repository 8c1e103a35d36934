"""What a folder of pictures is refused for, in one line."""

import os
import zlib
from pathlib import Path

import pytest
from PIL import Image

from hypergen import data
from hypergen.errors import InputError
from tests.hypergen.data.files import write_folder


@pytest.fixture
def pets(tmp_path) -> Path:
    write_folder(tmp_path, {"x": 10, "y": 10})
    return tmp_path


def refusal(folder: Path | str) -> str:
    with pytest.raises(InputError) as caught:
        data.load(f"folder:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path", ["", "/no/such/folder", __file__])
def test_no_folder(path):
    assert f"folder:{path}: there is no such folder" in refusal(path)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/pets", "x" * 5000, "a\nb", "\0"])
def test_paths_that_cannot_be(path):
    refusal(path)


def test_home_is_understood(pets, monkeypatch):
    monkeypatch.setenv("HOME", str(pets.parent))
    assert data.load(f"folder:~/{pets.name}").num_classes == 2


def test_no_class_or_one(tmp_path):
    assert "at least 2 classes" in refusal(tmp_path) and "found 0" in refusal(tmp_path)
    write_folder(tmp_path, {"x": 30})
    assert "found 1" in refusal(tmp_path)


def test_an_empty_class_is_named(pets):
    (pets / "z\nz").mkdir()
    assert "z\\nz" in refusal(pets) and "has no images" in refusal(pets)
    (pets / "z\nz" / ".hidden").touch()
    assert "has no images" in refusal(pets)


@pytest.mark.parametrize("content", ["truncated", "text", "nothing", "half a header"])
def test_an_unreadable_image_is_named(pets, content):
    path = pets / "y" / "0003.png"
    whole = path.read_bytes()
    path.write_bytes(
        {"truncated": whole[:150], "text": b"hello", "nothing": b""}.get(content, whole[:20])
    )
    assert f"{path}: unreadable image" in refusal(pets)


def test_a_truncated_jpeg_is_named(pets):
    path = pets / "y" / "photo.jpg"
    Image.effect_noise((8, 8), 90).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    assert f"{path}: unreadable image" in refusal(pets)


def test_a_flipped_byte_is_told_by_its_checksum(pets):
    path = pets / "y" / "0003.png"
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 1
    path.write_bytes(damaged)
    assert f"{path}: unreadable image" in refusal(pets)


def test_what_is_no_file_is_named(pets):
    (pets / "x" / "more").mkdir()
    assert "more: unreadable image (no file" in refusal(pets)
    (pets / "x" / "more").rmdir()
    os.mkfifo(pets / "x" / "pipe")
    assert "pipe: unreadable image (no file" in refusal(pets)
    os.remove(pets / "x" / "pipe")
    os.symlink("nowhere", pets / "x" / "link.png")
    assert "link.png: unreadable image (no file" in refusal(pets)


def test_nineteen_images_are_too_few(tmp_path):
    write_folder(tmp_path, {"x": 10, "y": 9})
    assert "19 images, expected at least 20" in refusal(tmp_path)


def test_parts_that_do_not_fit(tmp_path):
    write_folder(tmp_path / "train", {"x": 10, "y": 10})
    assert "none called test" in refusal(tmp_path)
    (tmp_path / "test").mkdir()
    assert f"{tmp_path}/test: there are no folders" in refusal(tmp_path)
    write_folder(tmp_path / "test", {"x": 3, "Y": 3})
    assert f"{tmp_path}/test/Y: there is no such class" in refusal(tmp_path)


def test_names_that_are_no_text(pets):
    os.rename(os.fsencode(pets / "y"), os.fsencode(pets) + b"/\xff")
    named = data.load(f"folder:{pets}")
    assert named.class_names == ("x", "\udcff")
    assert data.DatasetInfo.from_json(named.info.to_json()) == named.info
    (pets / "\udcff" / "0003.png").write_bytes(b"")
    assert "\\udcff/0003.png: unreadable image" in refusal(pets)


def test_a_bomb_is_refused_by_its_header(pets):
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + checksum

    size = (30_000).to_bytes(4, "big")
    head = chunk(b"IHDR", size + size + bytes([8, 2, 0, 0, 0]))
    (pets / "x" / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b""))
    assert "bomb.png: unreadable image (DecompressionBombError" in refusal(pets)
