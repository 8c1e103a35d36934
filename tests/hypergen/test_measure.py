import pytest
import torch

import attacks
from hypergen import measure
from hypergen.measure import (
    ACCURACY,
    MEASURERS,
    MEASURES,
    ROBUSTNESS,
    attacked_batch,
    named,
    survivors,
)
from hypergen.weights_file import load_network
from targets import Ensemble, Population

THREAT = attacks.Threat("linf", 0.05)


@pytest.fixture
def mixture(networks, base, device, dtype) -> Population:
    """A trained network among fresh ones."""
    modules = [networks[0], load_network(base), networks[1]]
    return Population.of(module.to(device, dtype) for module in modules)


@pytest.fixture
def images(there, dtype):
    images, labels = there.test.first(70)
    return images.to(dtype), labels


def test_survivors_equal_a_plain_loop(mixture, images):
    attack = attacks.PGD(THREAT, steps=3, restarts=2)
    table = survivors(mixture, *images, attack, seed=5, batch_size=32)
    assert list(table) == ["clean", attack.name]
    for index in range(3):
        network = mixture.module_at(index)

        def model(points, network=network):
            return torch.stack([network(part) for part in points])

        for start in range(0, 70, 32):
            part, labels = (t[start : start + 32] for t in images)
            clean = network(part).argmax(1) == labels
            assert table["clean"][index, start : start + 32].equal(clean)
            left = attack(model, part[None], labels, [5 + start]).correct[0]
            assert table[attack.name][index, start : start + 32].equal(left)
    assert table["clean"][1].sum() > table[attack.name][1].sum() > 0


@pytest.mark.parametrize("make", MEASURERS.values())
def test_without_a_threat_robustness_is_accuracy(make, mixture, images):
    batch = attacked_batch(mixture, *images, make(attacks.Threat("linf", 0.0), 2), 0)
    accuracy, robustness = (m(mixture, batch) for m in MEASURES)
    assert robustness.equal(accuracy) and accuracy.max() > 0.5


@pytest.mark.parametrize("batch_size", [1, 7, 70, 1000])
def test_clean_accuracy_does_not_depend_on_the_batch_size(mixture, images, batch_size):
    table = survivors(mixture, *images, None, 0, batch_size=batch_size)
    whole = mixture(images[0].expand(3, *images[0].shape)).argmax(-1) == images[1]
    assert table["clean"].equal(whole)


def test_packed_equals_alone(mixture, images):
    attack = MEASURERS["margin"](THREAT, 2)
    packed = survivors(mixture, *images, attack, seed=1)
    for i in range(3):
        alone = survivors(mixture[i : i + 1], *images, attack, seed=1)
        assert all(alone[name][0].equal(packed[name][i]) for name in packed)


def test_progress_counts_every_network_and_image_once(mixture, images):
    counts = []
    survivors(mixture, *images, None, 0, batch_size=32, progress=counts.append)
    assert sum(counts) == 3 * 70


def test_the_margin_measurer_is_not_fooled_by_large_logits(mixture, images):
    """Cross-entropy has no gradient left once soft-max is 0 or 1 to the last bit."""
    layout = mixture.layout
    last = [slot for slot in layout.slots][-2:]
    theta = mixture.theta.clone()
    for slot in last:
        theta[:, slot.start : slot.stop] *= 1e4
    saturated = mixture.with_theta(theta)
    honest, deceived = (
        ROBUSTNESS(saturated, attacked_batch(saturated, *images, MEASURERS[name](THREAT, 5), 2))
        for name in ("margin", "pgd")
    )
    plain = ROBUSTNESS(mixture, attacked_batch(mixture, *images, MEASURERS["margin"](THREAT, 5), 2))
    torch.testing.assert_close(honest, plain)
    assert (honest <= deceived).all() and honest[1] < deceived[1]


def test_measures_are_shares_of_a_plain_loop(mixture, images):
    attack = attacks.PGD(THREAT, steps=3)
    batch = attacked_batch(mixture, *images, attack, 4)
    assert [m.name for m in MEASURES] == ["accuracy", "robustness"]
    assert named(MEASURES) == {"accuracy": ACCURACY, "robustness": ROBUSTNESS}
    for index in range(3):
        network = mixture.module_at(index)
        for m, points in ((ACCURACY, batch.images), (ROBUSTNESS, batch.attacked[index])):
            share = (network(points).argmax(1) == batch.labels).float().mean()
            assert m(mixture, batch)[index] == share


def test_a_batch_attacked_in_parts_is_what_the_attack_makes_of_each(mixture, images, monkeypatch):
    for name in ("BATCH_IMAGES", "GPU_BATCH_IMAGES"):
        monkeypatch.setattr(measure, name, 32)
    attack, (points, labels) = attacks.PGD(THREAT, steps=3), images
    batch = attacked_batch(mixture, points, labels, attack, 5)
    for start in range(0, 70, 32):
        part = points[start : start + 32]
        stack = part.expand(3, *part.shape)
        alone = attack.perturb(mixture, stack, labels[start : start + 32], [5 + start] * 3)
        torch.testing.assert_close(batch.attacked[:, start : start + 32], alone)


def test_attacked_batches_lie_in_the_threat_and_raise_the_loss(mixture, images):
    attack = attacks.PGD(THREAT, steps=5)
    batch = attacked_batch(mixture, *images, attack, 0)
    assert (batch.attacked - batch.images).abs().max() <= 0.05 + 1e-6
    assert batch.attacked.min() >= 0 and batch.attacked.max() <= 1
    clean, attacked = (m.surrogate(mixture, batch) for m in MEASURES)
    assert (attacked > clean).all()
    part = batch.for_networks(slice(1, 2))
    alone = attacked_batch(mixture[1:2], *images, attack, 0)
    assert part.attacked.equal(alone.attacked)


def test_pieces_are_as_large_as_a_gpu_has_memory(mixture, images, monkeypatch):
    whole = survivors(mixture, *images, attacks.PGD(THREAT, steps=2), seed=5, batch_size=32)
    batch = attacked_batch(mixture, *images, attacks.PGD(THREAT, steps=2), 5)
    worth = {m.name: m(mixture, batch) for m in MEASURES}
    kept = mixture.bytes_kept(images[0][:32])
    sizes = []

    def attack(piece, stack, labels, seeds):
        sizes.append(len(piece))
        return attacks.PGD(THREAT, steps=2)(piece, stack, labels, seeds)

    attack.singly = False
    for room, expected in ((0.5, 1), (2.5, 2), (100, 3)):
        memory = int(room * kept / measure.KEPT_SHARE)
        monkeypatch.setattr(measure, "memory_of", lambda device, memory=memory: memory)
        sizes.clear()
        table = survivors(mixture, *images, attack, seed=5, batch_size=32)
        assert max(sizes) == expected and sum(sizes) == 3 * 3  # three parts of 70 images
        assert all(table[name].equal(left) for name, left in whole.items())
        assert all(m(mixture, batch).equal(worth[m.name]) for m in MEASURES)
    attack.singly = True  # whatever the room
    sizes.clear()
    survivors(mixture, *images, attack, seed=5, batch_size=32)
    assert max(sizes) == 1


@pytest.mark.parametrize(("room", "expected"), [(1e-6, 1), (0.1, 16), (1, 256), (2.1, 512)])
def test_a_gpu_takes_as_many_images_at_once_as_it_has_the_memory_for(
    mixture, images, room, expected, monkeypatch
):
    assert measure.images_at_once(mixture, images[0]) == 256
    many = images[0][:1].expand(256, -1, -1, -1)

    def has_room(room):
        memory = int(room * mixture.bytes_kept(many) / measure.KEPT_SHARE)
        monkeypatch.setattr(measure, "memory_of", lambda device: memory)

    has_room(room)
    assert measure.images_at_once(mixture, many) == expected
    # Whatever population a network is in; but where three vote, all three are in the memory.
    assert measure.images_at_once(mixture[1:], many) == expected
    has_room(3.1 * room)
    assert measure.images_at_once(Ensemble(mixture), many) == expected
    has_room(99)
    assert measure.images_at_once(mixture, many) == 2048


def test_which_network_cannot_be_attacked_is_told(mixture, images):
    theta = mixture.theta.clone()
    theta[2] = float("nan")
    with pytest.raises(attacks.AttackError, match=r"NaN or infinite logits \(networks \[2\]\)"):
        survivors(mixture.with_theta(theta), *images, attacks.PGD(THREAT, steps=2), seed=0)
