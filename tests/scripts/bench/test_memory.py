"""The table of commands and what they take, of made-up figures; its commands are real ones."""

import json
from pathlib import Path

import pytest

from scripts.bench import memory
from scripts.bench.memory import COMMANDS, MemoryConfig, command_of, write_images
from scripts.common import parsed


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_can_be_parsed(name, tmp_path):
    config = MemoryConfig(work=tmp_path, members=3)
    write_images(tmp_path / "images.npz", 20)
    words = command_of(name, "lenet5", config)
    settings, own = parsed([*words, "--memory", "2GiB"])
    assert own.machine.memory == "2GiB" and settings


def test_what_takes_too_much_is_named(tmp_path, monkeypatch, capsys):
    taken = {"baseline": 2**30, "evaluate": int(1.05 * 2**30), "ensemble": int(1.2 * 2**30)}

    def measured(words: list[str], limit: str, threads: int) -> dict:
        assert (limit, threads) == ("1GiB", 2)
        name = "ensemble" if "--ensemble" in words else words[0]
        return {"status": 0, "bytes": taken[name], "said": ""}

    monkeypatch.setattr(memory, "measured", measured)
    config = MemoryConfig(
        ("1GiB",), ("mlp",), tuple(taken), images=20, work=tmp_path, out=Path("found.json")
    )
    monkeypatch.chdir(tmp_path)
    memory.main(config)
    assert "beyond 1.1 times the memory: mlp, 1GiB, ensemble\n" in capsys.readouterr().out
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["mlp, 1GiB, evaluate"]["share"] == 1.05
