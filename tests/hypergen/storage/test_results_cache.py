import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import attacks
from hypergen.storage.results_cache import ResultsCache, _packed, _unpacked
from targets import Ensemble

PARTS = [slice(0, 32), slice(32, 64), slice(64, 70)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


@pytest.fixture
def images():
    rng = torch.Generator().manual_seed(1)
    return torch.rand(70, 1, 5, 5, generator=rng), torch.randint(10, (70,), generator=rng)


@pytest.fixture
def masks():
    """Of three networks on all images."""
    rng = torch.Generator().manual_seed(2)
    return {name: torch.rand(3, 70, generator=rng) < 0.5 for name in ("clean", "pgd")}


def part_of(masks: dict[str, Tensor], part: slice) -> dict[str, Tensor]:
    return {name: mask[:, part] for name, mask in masks.items()}


@pytest.fixture
def filled(path, images, masks, population):
    """The view of a cache in which all is known."""
    view = ResultsCache(path).view(*images, attack="pgd", seed=0)
    for part in PARTS:
        view.put(population, part, part_of(masks, part))
    return view


@given(st.lists(st.booleans(), max_size=40))
@settings(deadline=None)
def test_bits_come_back(bits):
    found = _unpacked(_packed(torch.tensor(bits, dtype=torch.bool)), len(bits))
    assert found is not None and found.tolist() == bits
    assert _unpacked(_packed(torch.tensor(bits, dtype=torch.bool)), len(bits) + 8) is None


def test_what_was_put_in_comes_back_from_the_file(filled, path, images, masks, population):
    for view in (filled, ResultsCache(path).view(*images, seed=0, attack="pgd")):
        for part in PARTS:
            found = view.get(population, part)
            assert list(found) == list(masks)
            assert all(found[name].equal(masks[name][:, part]) for name in masks)
        middle = view.get(population[1:2], PARTS[0])
        assert middle["pgd"].equal(masks["pgd"][1:2, PARTS[0]])
        assert view.get(population, slice(0, 31)) is None


def test_an_empty_cache_writes_nothing(path, images, population):
    assert ResultsCache(path).view(*images).get(population, PARTS[0]) is None
    assert not path.exists()


def test_whatever_decides_the_masks_tells_entries_apart(
    filled, path, images, population, monkeypatch
):
    """Images and labels by their content: another data set may have the same name."""
    points, labels = images
    other = points.clone()
    other[3, 0, 2, 2] += 1e-6
    cache, same = ResultsCache(path), {"attack": "pgd", "seed": 0}
    assert cache.view(points.clone(), labels.clone(), **same).get(population, PARTS[0])
    for view in (
        cache.view(other, labels, **same),
        cache.view(points, labels.roll(1), **same),
        cache.view(points, labels, **same | {"seed": 1}),
        cache.view(points, labels, **same | {"attack": None}),
    ):
        assert view.get(population, PARTS[0]) is None
    assert cache.view(other, labels, **same).get(population, PARTS[1])  # where they are the same
    for networks in (
        population.with_theta(population.theta * 1.1),
        Ensemble(population),
    ):
        assert filled.get(networks, PARTS[0]) is None
    monkeypatch.setattr(attacks, "VERSION", attacks.VERSION + 1)
    assert cache.view(points, labels, **same).get(population, PARTS[0]) is None


def test_networks_that_differ_in_structure_alone_are_others(filled, population, images, masks):
    module = population[0]
    module.power = 2
    assert filled.get(type(population).of([module]), PARTS[0]) is None


def test_an_ensemble_has_its_own_entry(filled, population, masks):
    one = {name: mask[:1, PARTS[0]] for name, mask in masks.items()}
    ensemble = Ensemble(population)
    filled.put(ensemble, PARTS[0], one)
    assert filled.get(Ensemble(population), PARTS[0])["pgd"].equal(one["pgd"])
    assert filled.get(Ensemble(population[:2]), PARTS[0]) is None
    assert len(filled.get(population, PARTS[0])["pgd"]) == 3


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_what_a_kill_cut_short_is_done_again(filled, path, images, masks, population, kept):
    first, *lines = path.read_text().splitlines(keepends=True)
    path.write_text(first + "".join(lines[:kept]) + lines[kept][:-5])
    view = ResultsCache(path).view(*images, attack="pgd", seed=0)
    assert path.read_text() == first + "".join(lines[:kept])
    known = [view.get(population[i : i + 1], part) for part in PARTS for i in range(3)]
    assert [masks is not None for masks in known] == [True] * kept + [False] * (9 - kept)
    for part in PARTS:
        view.put(population, part, part_of(masks, part))
    assert set(path.read_text().splitlines(keepends=True)) == {first, *lines}


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"3",
        b"{}",
        b"\xff\xfe",
        b"\0\0",
        b'{"key": 3, "masks": {}}',
        b'{"key": "a", "masks": [1]}',
        b'{"key": "a", "masks": {"pgd": 3}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_and_all_after_it_are_dropped(filled, path, line):
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([*lines[:3], line, *lines[3:]]) + b"\n")
    ResultsCache(path)
    assert path.read_bytes() == b"\n".join(lines[:3]) + b"\n"


def changed_lines(entry: dict) -> list[dict]:
    clean, pgd = entry["masks"]["clean"], entry["masks"]["pgd"]
    flipped = ("B" if pgd[0] != "B" else "C") + pgd[1:]
    return [
        entry | {"masks": {"cleans": clean, "pgd": pgd}},
        entry | {"masks": {"clean": pgd, "pgd": clean}},
        entry | {"masks": {"clean": clean, "pgd": flipped}},
        entry | {"masks": {"clean": clean}},
        {"key": entry["key"], "masks": entry["masks"]},
    ]


def test_changed_masks_are_not_believed(filled, path, images, population, masks):
    first, line, *rest = path.read_text().splitlines()
    for changed in changed_lines(json.loads(line)):
        path.write_text("\n".join([first, json.dumps(changed), *rest]) + "\n")
        view = ResultsCache(path).view(*images, attack="pgd", seed=0)
        assert view.get(population[:1], PARTS[0]) is None
        assert path.read_text() == f"{first}\n"


def test_masks_of_another_size_are_not_believed(filled, path, images, population):
    first, line, *_ = path.read_text().splitlines()
    entry = json.loads(line)
    for masks in ({"pgd": "AAAA"}, {"pgd": "no base64!"}, {"clean": "AAAAAA=="}):
        path.write_text(f"{first}\n{json.dumps(entry | {'masks': masks})}\n")
        view = ResultsCache(path).view(*images, attack="pgd", seed=0)
        found = view.get(population[:1], PARTS[0])
        assert found is None or found["clean"].shape == (1, 32)
        assert view.get(population, PARTS[0]) is None


def test_entries_are_compact(filled, path):
    assert path.stat().st_size / 9 < 250  # of nine, two masks of 32 bits each


def test_another_file_is_refused_and_left_alone(path, tmp_path, refused):
    for content in (b'{"networks": []}\n', b"\xff\xfe no text", b"a", b'{"key": "a"}\n'):
        path.write_bytes(content)
        assert "holds no results" in refused(ResultsCache, path)
        assert path.read_bytes() == content
    assert "cannot read" in refused(ResultsCache, tmp_path)


def test_a_file_cut_within_its_first_line_is_begun_anew(filled, path, images, masks, population):
    whole = path.read_bytes()
    for content in (b"", whole[:5], whole.splitlines()[0]):
        path.write_bytes(content)
        view = ResultsCache(path).view(*images, attack="pgd", seed=0)
        for part in PARTS:
            view.put(population, part, part_of(masks, part))
        assert path.read_bytes() == whole


def test_a_full_disk_is_told_with_the_files_name(tmp_path, images, masks, population):
    path = tmp_path / "gone" / "results.jsonl"
    view = ResultsCache(path).view(*images)
    with pytest.raises(OSError) as caught:
        view.put(population, PARTS[0], part_of(masks, PARTS[0]))
    assert caught.value.filename == str(path)
