import json
import subprocess
import sys
import time

import pytest
import torch

import attacks
from hypergen.cli import main
from hypergen.errors import InputError
from hypergen.measure import survivors
from hypergen.record import Bits
from targets import Ensemble

THREAT = attacks.Threat("linf", 0.05)


@pytest.fixture
def images(digits):
    return digits.test.first(70)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "bits.jsonl"


@pytest.fixture
def look(population, images, path):
    """The table of a population, by way of the record, and how many images were attacked for it."""

    def table(networks=population, steps=2, seed=0):
        attack, count = attacks.PGD(THREAT, steps=steps), 0

        def attacked(*arguments):
            nonlocal count
            count += len(arguments[1][0])
            return attack(*arguments)

        attacked.singly = False
        record = Bits(path).about(steps=steps, seed=seed)
        found = survivors(networks, *images, attacked, seed, batch_size=32, record=record)
        return found, count

    return table


def test_what_is_known_is_not_done_again_and_is_the_same(look, population, images):
    plain = survivors(population, *images, attacks.PGD(THREAT, steps=2), 0, batch_size=32)
    first, done = look()
    second, again = look()
    assert (done, again) == (3 * 70, 0)
    for name, left in plain.items():
        assert left.equal(first[name]) and left.equal(second[name])


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_killed_evaluation_continues(look, path, kept):
    whole, _ = look()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:kept]) + lines[kept][:-5])
    found, done = look()
    assert all(left.equal(found[name]) for name, left in whole.items())
    sizes = [len(part) for part in torch.arange(70).split(32)] * 3
    assert done == sum(sizes[kept:])
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted(lines)


def test_other_weights_attacks_seeds_and_voters_are_others(look, population):
    look()
    assert look(steps=3)[1] == look(seed=1)[1] == 3 * 70
    assert look(population[1:])[1] == 0
    assert look(population.with_theta(population.theta * 1.1))[1] == 3 * 70
    assert look(Ensemble(population))[1] == 70
    assert look(Ensemble(population))[1] == 0


def test_what_attacks_of_another_version_found_is_not_gone_on_from(look, monkeypatch):
    look()
    monkeypatch.setattr(attacks, "VERSION", attacks.VERSION + 1)
    assert look()[1] == 3 * 70
    assert look()[1] == 0


def test_bits_are_compact(look, path):
    look()
    assert path.stat().st_size / 9 < 250  # 9 pieces, two tables of 32 bits each


def test_another_file_is_refused_and_left_alone(path):
    path.write_text(json.dumps({"networks": []}) + "\n")
    with pytest.raises(InputError, match="is no record of an evaluation"):
        Bits(path)
    assert json.loads(path.read_text()) == {"networks": []}
    path.write_bytes(b"\xff\xfe no text")
    with pytest.raises(InputError, match="is no record of an evaluation"):
        Bits(path)


def test_evaluate_killed_and_run_again_ends_with_the_same_table(base, tmp_path):
    def command(name: str) -> list[str]:
        options = ["--attack", "apgd-t", "--images", "360", "--restarts", "1"]
        return ["evaluate", str(base), *options, "--json", str(tmp_path / name)]

    assert main(command("whole.json")) == 0
    program = [sys.executable, "-m", "hypergen", *command("killed.json")]
    killed = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    record = tmp_path / "killed.survivors.jsonl"
    while not (record.exists() and len(record.read_text().splitlines()) >= 3):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.kill()
    killed.wait()
    assert not (tmp_path / "killed.json").exists()
    found = len(record.read_text().splitlines())
    assert main(command("killed.json")) == 0
    assert len(record.read_text().splitlines()) > found
    whole, again = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("whole", "killed"))
    assert whole == again
