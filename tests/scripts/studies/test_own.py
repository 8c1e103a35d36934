"""A stranger's images, network and base through every command."""

from unittest import mock

import pytest

import targets
from hypergen.cli.main import main
from hypergen.evaluation import sanity_checks
from hypergen.registry import LOADED
from scripts.studies import own


@pytest.fixture
def clean_registries():
    """Afterwards nothing of the user's code is registered."""
    with mock.patch.dict(targets.TARGETS), mock.patch.dict(LOADED):
        yield


def test_the_user_writes_less_than_40_lines():
    assert len([line for line in own.USER_CODE.splitlines() if line.strip()]) < 40


def test_all_commands_but_the_sweep(clean_registries, brief, brief_pretraining, monkeypatch):
    monkeypatch.setattr(sanity_checks, "QUERIES", 20)
    smaller = {
        "train": ["--population", "2", "--batch-size", "8", "--max-robustness-gap", "1"],
        "evaluate": ["--steps", "3", "--restarts", "1"],
        "transfer": ["--steps", "3", "--restarts", "1"],
    }

    def execute(words):
        return 0 if words[0] == "sweep" else main([*words, *smaller.get(words[0], [])])

    result = own.study(own.OwnConfig(quick=True), execute)
    summaries = result["summaries"]
    assert summaries["pictures"]["sample"]["count"] == summaries["bars"]["sample"]["count"] == 3


@pytest.mark.slow
def test_all_commands_as_processes(clean_registries):
    result = own.study(own.OwnConfig(quick=True), own.in_process_of_its_own)
    assert len(result["commands"]) == 8
