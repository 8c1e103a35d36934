"""Several ranks compute what one process does, bit for bit; what torchrun says is checked."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from hypergen.cli.main import main
from hypergen.errors import InputError
from hypergen.runtime import crew, exchange, ranks
from hypergen.runtime.ranks import Place
from hypergen.runtime.sessions import TIMES
from tests.hypergen.runtime import together


@pytest.fixture
def launched(monkeypatch):
    """Sets what torchrun would."""

    def launch(rank: int | str, count: int | str = 2, **others: str) -> None:
        for name, value in {"RANK": rank, "WORLD_SIZE": count, **others}.items():
            monkeypatch.setenv(name, str(value))

    return launch


@pytest.fixture
def one_thread():
    """As each rank has: how many there are may change the last bit of a product of matrices."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def together_with(launched, monkeypatch):
    """Makes this process the first of several ranks, and starts the others; all must end well."""
    monkeypatch.setattr(ranks, "_joined", ranks._Joined())
    monkeypatch.setattr(crew, "_tasks", itertools.count())
    started = []

    def start(count: int) -> None:
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": together.free_port()}
        launched(0, count, **where)
        started.extend(together.start_helpers(count))

    yield start
    assert [process.wait(60) for process in started] == [0] * len(started)


def difference(one: Any, other: Any) -> str:
    """Where two trees of tensors differ first, but for times; nothing where no bit differs."""
    if isinstance(one, Tensor):
        return "" if one.equal(other) else f"off by {(one.double() - other.double()).abs().max():g}"
    if isinstance(one, dict):
        one, other = (
            [each for each in tree.items() if each[0] not in TIMES] for tree in (one, other)
        )
    if isinstance(one, list | tuple):
        if len(one) != len(other):
            return "length"
        found = (
            f"{i}/{d}" for i, p in enumerate(zip(one, other, strict=True)) if (d := difference(*p))
        )
        return next(found, "")
    return "" if one == other else f"{one} {other}"


@pytest.mark.parametrize(
    ("count", "steps", "names"),
    [
        (2, 6, ["direct-mlp", f"hybrid-{together.NORMALISED}"]),
        pytest.param(2, 50, together.NAMES, marks=pytest.mark.slow),
        pytest.param(3, 50, together.NAMES, marks=pytest.mark.slow),
    ],
)
def test_ranks_compute_the_bits_of_one_process(
    count, steps, names, tmp_path, one_thread, together_with
):
    together.register()
    alone = together.all_of(tmp_path / "alone", steps, names)
    together_with(count)
    found = together.lead(tmp_path / "shared", steps, names)
    assert list(found) == list(alone)
    for name, expected in alone.items():
        assert difference(expected, found[name]) == "", name
    clean, robust, *_ = alone["judged"]
    assert 0 < robust.sum() < clean.sum()
    assert all(rate.any() for rate in alone["transferred"])


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_shares_follow_each_other_and_differ_by_one_at_most(count, monkeypatch):
    for total in range(20):
        slices = []
        for rank in range(count):
            monkeypatch.setattr(ranks._joined, "place", Place(rank, count))
            slices.append(exchange.share(total))
        assert [i for each in slices for i in range(total)[each]] == list(range(total))
        sizes = [len(range(total)[each]) for each in slices]
        assert max(sizes) - min(sizes) <= 1


def test_what_is_gathered_is_shared_out_again(monkeypatch):
    whole, totals, parts = torch.arange(22).reshape(11, 2), (7, 4), []
    for rank in range(3):
        monkeypatch.setattr(ranks._joined, "place", Place(rank, 3))
        parts.append(exchange.own(whole, *totals))

    def all_gather(found: list[Tensor], padded: Tensor) -> None:
        for to, part in zip(found, parts, strict=True):
            to[: len(part)] = part

    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    assert exchange.gathered(parts[2], *totals).equal(whole)


def test_more_ranks_than_networks_are_refused(monkeypatch):
    monkeypatch.setattr(ranks._joined, "place", Place(0, 3))
    exchange.require_networks(3)
    with pytest.raises(InputError, match="started 3 processes for a `population` of 2"):
        exchange.require_networks(2)


@pytest.mark.parametrize(
    ("rank", "count", "told"),
    [
        (2, 2, "RANK must be below WORLD_SIZE, which is 2"),
        ("two", 2, "RANK must be a whole number, as torchrun sets it, got two"),
        (0, "-1", "WORLD_SIZE must be a whole number, as torchrun sets it, got -1"),
    ],
)
def test_an_impossible_place_is_told_in_one_line(rank, count, told, launched, capsys):
    launched(rank, count)
    assert main(["evaluate", "nothing"]) == 2
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and told in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["evaluate", "nothing", "--images", "0"], "images"),
        (["sweep"], "sweep is one process: torchrun is for train,"),
        (["evaluate", "nothing"], "MASTER_ADDR expected"),
    ],
)
def test_only_the_first_speaks(arguments, told, launched, capsys, monkeypatch):
    """Another rank waits to be ended by torchrun; if it is not, it is alone with its mistake."""

    def ended(seconds: float) -> None:
        raise SystemExit

    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setattr(ranks.time, "sleep", ended)
    launched(0)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert not out and told in err and err.count("\n") == 1
    launched(1)
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(ranks.time, "sleep", lambda seconds: None)
    assert main(arguments) == 2
    assert capsys.readouterr() == ("", err)


@pytest.mark.parametrize(
    ("lacks", "told"),
    [("is_gloo_available", "without gloo"), ("is_nccl_available", "without NCCL")],
)
def test_a_missing_backend_is_told(lacks, told, launched, capsys, monkeypatch):
    monkeypatch.setattr(torch.distributed, lacks, lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    launched(0)
    assert main(["evaluate", "nothing"]) == 2
    assert told in capsys.readouterr().err


def test_every_process_needs_a_gpu_of_its_own(launched, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    launched(2, 3, LOCAL_RANK="2")
    told = "has 2 GPUs, and torchrun has started 3 or more"
    with pytest.raises(InputError, match=told), ranks.joined():
        pass


def test_restarts_need_a_folder(launched, capsys, monkeypatch, tmp_path):
    from hypergen.cli import train

    monkeypatch.chdir(tmp_path)
    launched(0, 2, TORCHELASTIC_MAX_RESTARTS="1")
    settings, own = train.COMMAND.parse("train", [])
    with pytest.raises(InputError, match="--max-restarts needs `out`"):
        train.run(settings, own)
    assert not list(Path().iterdir())
