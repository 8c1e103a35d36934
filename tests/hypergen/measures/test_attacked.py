import pytest
import torch

import attacks
from hypergen.measures import VALUE_ATTACKS
from hypergen.measures.attacked import (
    RobustMasks,
    accuracies,
    attack_population,
    attacked_images,
    predictions,
)
from hypergen.runtime import fitting
from hypergen.storage.results_cache import ResultsCache
from targets import Ensemble
from tests.hypergen.batches import PAIR, attacked_batch


def test_masks_equal_a_plain_loop(mixture, images, threat):
    attack = attacks.PGD(threat, steps=3, restarts=2)
    masks = attack_population(mixture, *images, attack, seed=5, batch_size=32)
    assert list(masks.after) == [attack.name] and masks.robust is masks.after[attack.name]
    for index in range(3):
        network = mixture[index]

        def model(points, network=network):
            return torch.stack([network(part) for part in points])

        for start in range(0, 70, 32):
            part, labels = (t[start : start + 32] for t in images)
            clean = network(part).argmax(1) == labels
            assert masks.clean[index, start : start + 32].equal(clean)
            robust = attack(model, part[None], labels, [5 + start]).robust_mask[0]
            assert masks.robust[index, start : start + 32].equal(robust)
    assert masks.clean[1].sum() > masks.robust[1].sum() > 0


def test_of_a_suite_every_attack_has_a_mask(mixture, images, threat):
    suite = attacks.standard(threat)
    masks = attack_population(mixture, *images, suite, seed=0)
    before = masks.clean
    for mask in masks.after.values():  # what one attack breaks stays broken
        assert mask.shape == (3, 70) and not (mask & ~before).any()
        before = mask
    assert len(masks.after) > 1 and masks.robust.equal(before)


def test_shares_of_masks():
    clean = torch.tensor([[True, True, True, False], [True, False, False, False]])
    robust = torch.tensor([[True, False, True, False], [False, False, False, False]])
    masks = RobustMasks(clean, {"pgd": clean, "square": robust})
    assert masks.accuracy.tolist() == [0.75, 0.25]
    assert masks.robust_accuracy.tolist() == [0.5, 0.0] and masks.robust is robust
    alone = RobustMasks(clean)
    assert alone.robust is clean and alone.robust_accuracy.equal(alone.accuracy)


@pytest.mark.parametrize("batch_size", [1, 7, 70, 1000])
def test_clean_accuracy_does_not_depend_on_the_batch_size(mixture, images, batch_size):
    masks = attack_population(mixture, *images, None, 0, batch_size=batch_size)
    whole = mixture(images[0].expand(3, *images[0].shape)).argmax(-1) == images[1]
    assert masks.clean.equal(whole) and not masks.after
    assert accuracies(mixture, *images).equal(masks.accuracy)
    classes = predictions(mixture, images[0])
    assert (classes == images[1]).equal(whole)


def test_packed_equals_alone(mixture, images, threat):
    attack = VALUE_ATTACKS["margin"](threat, 2)
    packed = attack_population(mixture, *images, attack, seed=1)
    for i in range(3):
        alone = attack_population(mixture[i : i + 1], *images, attack, seed=1)
        assert alone.clean[0].equal(packed.clean[i]) and alone.robust[0].equal(packed.robust[i])


def test_progress_counts_every_network_and_image_once(mixture, images):
    counts = []
    attack_population(mixture, *images, None, 0, batch_size=32, advance=counts.append)
    assert sum(counts) == 3 * 70


def test_a_batch_attacked_in_chunks_is_what_the_attack_makes_of_each(
    mixture, images, monkeypatch, threat
):
    for name in ("BATCH_IMAGES", "GPU_BATCH_IMAGES"):
        monkeypatch.setattr(fitting, name, 32)
    attack, (points, labels) = attacks.PGD(threat, steps=3), images
    attacked = attacked_images(mixture, points, labels, attack, 5)
    for start in range(0, 70, 32):
        some = points[start : start + 32]
        stack = some.expand(3, *some.shape)
        alone = attack.perturb(mixture, stack, labels[start : start + 32], [5 + start] * 3)
        torch.testing.assert_close(attacked[:, start : start + 32], alone)


def test_attacked_batches_lie_in_the_threat_and_raise_the_loss(mixture, images, threat):
    attack = attacks.PGD(threat, steps=5)
    batch = attacked_batch(mixture, *images, attack, 0)
    points = batch.prepared["robustness"]
    assert (points - batch.images).abs().max() <= 0.05 + 1e-6
    assert points.min() >= 0 and points.max() <= 1
    clean, attacked = (m.surrogate_loss(mixture, batch) for m in PAIR)
    assert (attacked > clean).all()
    part = batch.for_networks(slice(1, 2))
    alone = attacked_batch(mixture[1:2], *images, attack, 0)
    assert part.prepared["robustness"].equal(alone.prepared["robustness"])


def test_chunks_are_as_large_as_a_gpu_has_memory(mixture, images, monkeypatch, threat):
    whole = attack_population(mixture, *images, attacks.PGD(threat, steps=2), seed=5, batch_size=32)
    batch = attacked_batch(mixture, *images, attacks.PGD(threat, steps=2), 5)
    scores = {m.name: m(mixture, batch) for m in PAIR}
    kept = mixture.bytes_kept(images[0][:32])
    sizes = []

    def attack(chunk, stack, labels, seeds):
        sizes.append(len(chunk))
        return attacks.PGD(threat, steps=2)(chunk, stack, labels, seeds)

    attack.one_at_a_time = False
    for room, expected in ((0.5, 1), (2.5, 2), (100, 3)):
        memory = int(room * kept / fitting.KEPT_SHARE)
        monkeypatch.setattr(fitting, "gpu_memory", lambda device, memory=memory: memory)
        sizes.clear()
        masks = attack_population(mixture, *images, attack, seed=5, batch_size=32)
        assert max(sizes) == expected and sum(sizes) == 3 * 3  # three chunks of 70 images
        assert masks.clean.equal(whole.clean) and masks.robust.equal(whole.robust)
        assert all(m(mixture, batch).equal(scores[m.name]) for m in PAIR)
    attack.one_at_a_time = True  # whatever the room
    sizes.clear()
    attack_population(mixture, *images, attack, seed=5, batch_size=32)
    assert max(sizes) == 1


def test_which_network_cannot_be_attacked_is_told(mixture, images, threat):
    theta = mixture.theta.clone()
    theta[2] = float("nan")
    with pytest.raises(attacks.AttackError, match=r"NaN or infinite logits \(networks \[2\]\)"):
        attack_population(mixture.with_theta(theta), *images, attacks.PGD(threat, steps=2), seed=0)
    with pytest.raises(attacks.AttackError, match=r"NaN or infinite logits \(networks \[2\]\)"):
        attacked_images(mixture.with_theta(theta), *images, attacks.PGD(threat, steps=2), seed=0)


def test_voters_are_attacked_as_one(mixture, images, threat):
    voters, attack = Ensemble(mixture), attacks.PGD(threat, steps=3)
    masks = attack_population(voters, *images, attack, seed=0)
    assert masks.clean[0].equal(voters(images[0]).argmax(-1) == images[1])
    attacked = attacked_images(voters, *images, attack, 0)
    robust = voters(attacked[0]).argmax(-1) == images[1]
    assert masks.robust.shape == (1, 70) and not (masks.robust[0] & ~robust).any()


def test_what_a_cache_holds_is_not_attacked_again(mixture, images, threat, tmp_path):
    attack, counts = attacks.PGD(threat, steps=2), []
    cache = ResultsCache(tmp_path / "cache")

    def masks(seed, attack):
        view = cache.view(*images, attack="pgd", seed=seed)
        return attack_population(
            mixture, *images, attack, seed, batch_size=32, advance=counts.append, cache=view
        )

    first = masks(3, attack)

    def refused(*_):
        raise AssertionError("attacked again")

    refused.one_at_a_time = False
    again = masks(3, refused)
    assert again.clean.equal(first.clean) and again.robust.equal(first.robust)
    assert sum(counts) == 2 * 3 * 70
    with pytest.raises(AssertionError, match="attacked again"):
        masks(4, refused)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_measures_keeps_all_bits_of_float32(precision, mixture, images, threat, precisions):
    attack = attacks.PGD(threat, steps=1)
    attacked_images(mixture, *images, attack, 0, precision)
    attack_population(mixture, *images, attack, 0)
    predictions(mixture, images[0])
    assert precisions and set(precisions) == {"ieee"}
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"
