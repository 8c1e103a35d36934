"""Attacks on populations by way of a cache: nothing is done twice, and the masks are the same."""

import pytest
import torch

import attacks
from hypergen.measures.attacked import attack_population
from hypergen.storage.results_cache import ResultsCache
from targets import Ensemble

THREAT = attacks.Threat("linf", 0.05)


@pytest.fixture
def images(population):
    """Some, with the labels that the first network gives them."""
    points = torch.rand(70, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    return points, population[0](points).argmax(-1).detach()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "results.jsonl"


@pytest.fixture
def attacked(population, images, path):
    """The masks of networks under PGD, and how many images were attacked for them."""

    def attacked(networks=population, steps=2, seed=0):
        attack, count = attacks.PGD(THREAT, steps=steps), 0

        def counting(*arguments):
            nonlocal count
            count += len(arguments[1][0])
            return attack(*arguments)

        counting.one_at_a_time = False
        view = ResultsCache(path).view(*images, steps=steps, seed=seed)
        masks = attack_population(networks, *images, counting, seed, batch_size=32, cache=view)
        return masks, count

    return attacked


def same(one, other) -> bool:
    return one.clean.equal(other.clean) and one.robust.equal(other.robust)


def test_what_is_known_is_not_done_again_and_is_the_same(attacked, population, images):
    plain = attack_population(population, *images, attacks.PGD(THREAT, steps=2), 0, batch_size=32)
    first, done = attacked()
    second, again = attacked()
    assert (done, again) == (3 * 70, 0)
    assert same(plain, first) and same(plain, second) and list(second.after) == list(plain.after)
    assert 0 < plain.robust[0].sum() < plain.clean[0].sum()


@pytest.mark.parametrize("kept", [0, 1, 5])
def test_a_killed_evaluation_continues(attacked, path, kept):
    whole, _ = attacked()
    first, *lines = path.read_text().splitlines(keepends=True)
    path.write_text(first + "".join(lines[:kept]) + lines[kept][:-5])
    found, done = attacked()
    assert same(whole, found)
    sizes = [len(part) for part in torch.arange(70).split(32)] * 3
    assert done == sum(sizes[kept:])
    assert sorted(path.read_text().splitlines(keepends=True)) == sorted([first, *lines])


def test_other_weights_attacks_seeds_and_ensembles_are_others(attacked, population):
    attacked()
    assert attacked(steps=3)[1] == attacked(seed=1)[1] == 3 * 70
    assert attacked(population[1:])[1] == 0
    assert attacked(population.with_theta(population.theta * 1.1))[1] == 3 * 70
    assert attacked(Ensemble(population))[1] == 70
    assert attacked(Ensemble(population))[1] == 0
