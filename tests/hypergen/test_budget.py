"""How much memory there is to use: said, found, or left in a container."""

import subprocess
import sys
from pathlib import Path

import pytest

from hypergen import budget
from hypergen.budget import (
    allowed,
    free_memory,
    held,
    limit_memory,
    limited_memory,
    parse_size,
    room,
)
from hypergen.errors import InputError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GiB", 2**32),
        ("500MB", 5 * 10**8),
        ("1.5 gib", 3 * 2**29),
        ("2000000", 2000000),
        (2**30, 2**30),
        ("1TB", 10**12),
        (" 2000000b ", 2000000),
    ],
)
def test_sizes_have_units(text, expected):
    assert parse_size(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "4 XB", "1e9", "inf", "nan", "50%", "٤GiB", "1" * 50, "0", "999kb"]
)
def test_what_is_no_size_is_told(text):
    with pytest.raises(InputError, match="`memory` must be ") as told:
        parse_size(text)
    assert "\n" not in str(told.value)
    before = allowed()
    with pytest.raises(InputError):
        limit_memory(text)
    assert allowed() == before


def test_a_limit_is_set_back():
    with limited_memory("4GiB"):
        assert allowed() == budget.budget() == 2**32
        with limited_memory(None):
            assert allowed() is None
        assert room() == pytest.approx(2**32 - held(), abs=2**27)
    assert allowed() is None


def test_less_than_the_program_takes_is_told_at_once():
    if not held():
        pytest.skip("this system does not tell")
    with pytest.raises(InputError, match="`memory` 2MB: the program itself takes .* GiB already"):
        limit_memory("2MB")
    assert allowed() is None


def test_what_is_held_grows_with_what_is_taken_and_shrinks_with_what_is_freed():
    """In a process of its own: here others take and free memory meanwhile."""
    if not held():
        pytest.skip("this system does not tell")
    code = """
import mmap
from hypergen.budget import held
before = held()
pages = mmap.mmap(-1, 2**26)
pages.write(b"x" * 2**26)
taken = held() - before
pages.close()
print(taken, held() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    taken, left = map(int, found.stdout.split())
    assert abs(taken - 2**26) < 2**22 and abs(left) < 2**22


def container(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_a_container_leaves_less_than_the_machine(tmp_path, monkeypatch):
    """By the limits of all groups that the process is in, in both versions of cgroups."""
    own, machine = tmp_path / "own", tmp_path / "meminfo"
    machine.write_text("MemTotal: 99 kB\nMemAvailable: 1000 kB\n")
    monkeypatch.setattr(budget, "MEMINFO", machine)
    monkeypatch.setattr(budget, "OWN_CGROUPS", own)
    monkeypatch.setattr(budget, "CGROUPS", tmp_path / "groups")
    assert free_memory() == 1024000  # there are no groups
    own.write_text("7:cpu:/x\n4:memory:/job/step\n0::/deep/er\n")
    assert free_memory() == 1024000  # these say nothing
    two = tmp_path / "groups"
    container(two / "deep/er", memory__max="max\n", memory__current="5")
    assert free_memory() == 1024000
    usage = {"memory__current": "300000", "memory__stat": "anon 1\ninactive_file 100000\n"}
    container(two / "deep", memory__max="700000\n", **usage)
    assert free_memory() == 500000
    files = {"memory__usage_in_bytes": "10000", "memory__stat": "total_inactive_file 0\n"}
    container(two / "memory", memory__limit_in_bytes="400000", **files)
    assert free_memory() == 390000  # of the whole, while the own one is not to be seen inside
    container(two / "memory/job", memory__limit_in_bytes="9000", **files)
    assert free_memory() == 0  # more is used than that
