"""What networks are judged by, and the rows that come of it."""

import time
from dataclasses import replace

import pytest
import torch

import targets
from attacks import FGSM, PGD, AttackError, Threat
from hypergen.evaluation.evaluator import Evaluator, by_architecture, cost
from hypergen.runtime.torch_state import usual_state
from hypergen.storage.results_cache import ResultsCache
from hypergen.storage.weights import load_network
from targets import Ensemble, Population

THREAT = Threat("linf", 0.03)


@pytest.fixture
def trained(base) -> Population:
    return Population.of([load_network(base)])


def test_pgd_is_the_one_that_was_asked_for():
    evaluator = Evaluator(THREAT, steps=3, restarts=4, step_size=0.02)
    assert evaluator.pgd == evaluator.attack == PGD(THREAT, 3, 0.02, restarts=4)
    assert replace(evaluator, attack_name="fgsm").attack == FGSM(THREAT)


def test_a_row_is_what_a_plain_loop_finds(trained, digits):
    evaluator = Evaluator(THREAT, steps=3, restarts=1, images=129)
    (row,) = evaluator.evaluate(trained, digits)
    images, labels = digits.test.first(len(digits.test))
    share = (trained[0](images).argmax(1) == labels).double().mean()
    assert row["accuracy"] == pytest.approx(float(share))
    by_hand = PGD(THREAT, 3)(trained, images[None, :129], labels[:129], [0])
    assert row["pgd"] == row["robustness"] == pytest.approx(float(by_hand.robust_accuracy))
    assert row.keys() == {"accuracy", "pgd", "robustness", "interval"}
    on_validation = replace(evaluator, split="val").evaluate(trained, digits)[0]
    images, labels = digits.val.first(len(digits.val))
    share = (trained[0](images).argmax(1) == labels).double().mean()
    assert on_validation["accuracy"] == pytest.approx(float(share))


def test_networks_are_judged_together_as_alone(population, digits):
    evaluator = Evaluator(THREAT, "fgsm", steps=2, restarts=1, images=40)
    together = evaluator.evaluate(population, digits)
    for index, row in enumerate(together):
        assert evaluator.evaluate(population[index : index + 1], digits) == [row]
    (voting,) = evaluator.evaluate(Ensemble(population), digits)
    images, labels = digits.test.first(len(digits.test))
    mean = torch.stack([net(images).softmax(-1) for net in population]).mean(0)
    share = (mean.argmax(1) == labels).double().mean()
    assert voting["accuracy"] == pytest.approx(float(share))


def test_the_seed_and_the_data_set_tell_what_is_known_already(trained, digits, tmp_path):
    """One step from a random start breaks other images for another seed; nothing is mixed up."""
    other = replace(digits, test=digits.val)
    found = {}
    path = tmp_path / "masks.jsonl"
    for cache in (None, ResultsCache(path), ResultsCache(path)):
        for seed in range(3):
            for name, dataset in (("digits", digits), ("other", other)):
                evaluator = Evaluator(
                    THREAT, steps=1, restarts=1, images=129, seed=seed, cache=cache
                )
                (row,) = evaluator.evaluate(trained, dataset)
                assert found.setdefault((seed, name), row) == row
                images, labels = dataset.test.first(129)
                by_hand = PGD(THREAT, 1)(trained, images[None], labels, [seed])
                assert row["pgd"] == pytest.approx(float(by_hand.robust_accuracy))
    assert len({row["pgd"] for row in found.values()}) > 2


def test_several_as_one(population, digits):
    evaluator = Evaluator(THREAT, steps=2, restarts=1, images=30)
    rows = evaluator.evaluate(population, digits)
    mean = sum(row["accuracy"] for row in rows) / len(rows)
    found = evaluator.as_one(population, digits, mean)
    assert found["voting"] == evaluator.evaluate(Ensemble(population), digits)[0]
    assert found["random_member"]["accuracy"] == mean
    clean = evaluator.images_of(digits).first(30)
    shares = torch.stack([(net(clean[0]).argmax(1) == clean[1]).float() for net in population])
    assert 0 <= found["random_member"]["robustness"] <= float(shares.mean())


def test_inputs_outside_the_dictionary_of_their_kaf_stand_beside_robustness(digits):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = targets.build("mlp", "kaf-elu", input_shape=digits.input_shape)
    (row,) = Evaluator(THREAT, steps=1, restarts=1, images=20).evaluate(
        Population.of([network]), digits
    )
    inputs = network.layers[0](digits.test.first(20)[0].flatten(1))
    expected = float((inputs.abs() > 3).double().mean())
    assert row["outside_dictionary"] == pytest.approx(expected)


def test_networks_without_numbers_are_told_as_they_are_counted(networks, digits):
    with torch.no_grad():
        networks[1].layers[0].weight[0, 0] = float("nan")
    with pytest.raises(AttackError) as told:
        Evaluator(THREAT, steps=1, images=20).evaluate(Population.of(networks), digits)
    assert list(told.value.networks) == [1]


def test_what_is_said_of_the_attack_is_what_was_done(digits):
    evaluator = Evaluator(THREAT, "fgsm", steps=3, restarts=2, images=9999, seed=4, split="val")
    said = evaluator.describe(digits)
    assert (said["name"], said["seed"], said["split"]) == ("fgsm", 4, "val")
    assert said["images"] == len(digits.val) and said["pgd"]["steps"] == 3
    assert said["threat"] == {"norm": "linf", "epsilon": 0.03}
    both = replace(evaluator, others=(Threat("l2", 1.0),)).describe(digits)
    assert [each["threat"]["norm"] for each in both["others"]] == ["l2"]


def test_costs_are_of_every_phase_and_grow_with_the_work(digits):
    evaluator = Evaluator(THREAT, "standard", steps=10, images=50, others=(Threat("l2", 1.0),))
    costs = evaluator.costs(digits, 3)
    assert costs.keys() == {"accuracy", "pgd", "linf", "l2"} and min(costs.values()) > 0
    assert evaluator.costs(digits, 6) == {name: 2 * value for name, value in costs.items()}
    assert cost(PGD(THREAT, steps=20, restarts=3)) == 6 * cost(PGD(THREAT, steps=10))


def test_modules_are_grouped_by_their_architecture():
    modules = [targets.build(name) for name in ("mlp", "small-lenet5", "mlp")]
    modules.append(targets.build("mlp", "elu"))
    assert by_architecture(modules) == [[0, 2], [1], [3]]


def test_the_usual_state_is_that_of_a_new_process_and_leaves_the_users():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode():
            with usual_state():
                inside = torch.ones(2, requires_grad=True)
                torch.rand(7)
                assert inside.dtype == torch.float32 and not inside.is_inference()
                assert (2 * inside).requires_grad
            assert torch.is_inference_mode_enabled()
        with torch.no_grad():
            with pytest.raises(ZeroDivisionError), usual_state():
                assert torch.is_grad_enabled() and time.time() / 0
            assert not torch.is_grad_enabled()
        assert torch.get_default_dtype() == torch.float64
        assert torch.rand(3, dtype=torch.float32).equal(expected)
    finally:
        torch.set_default_dtype(torch.float32)
