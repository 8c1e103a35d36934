"""Networks over a plane of latent samples."""

import copy

import pytest
import torch

import attacks
from hypergen.analysis import Context, Group, NotApplicable
from hypergen.analysis.latent_map import PART, REACH, SIDE, LatentMap, plane
from hypergen.analysis.regions import pairs_of_classes
from hypergen.config import TrainConfig
from hypergen.evaluation.sampler import Sampler
from hypergen.models.bundle import ModelBundle
from hypergen.runtime.progress import SILENT
from tests.hypergen.analysis.scene import context, networks, relu_net
from tests.targets.test_breakpoints import followed


@pytest.fixture(scope="module")
def sampler(digits):
    """Of an untrained generator with a range of beta."""
    return untrained(digits, "0:0.5")


def untrained(digits, beta):
    config = TrainConfig.of(target="mlp", beta=beta)
    return Sampler(config, digits.info, ModelBundle.fresh(config, digits.info), 2, digits)


def test_the_plane_of_a_range_is_one_of_z_and_beta(sampler):
    across, up, z, beta = plane(sampler, torch.Generator().manual_seed(0))
    assert len(z) == SIDE**2
    torch.testing.assert_close(z.norm(dim=1), across.abs())
    assert torch.equal(up, beta) and beta.min() == 0 and beta.max() == 0.5


def test_the_plane_of_one_beta_has_two_directions_at_right_angles(digits):
    across, up, z, beta = plane(untrained(digits, "0.5"), torch.Generator().manual_seed(0))
    torch.testing.assert_close(z.norm(dim=1), (across**2 + up**2).sqrt())
    assert float(across.max()) == float(up.max()) == REACH
    assert set(beta.tolist()) == {0.5}
    middle = len(z) // 2
    assert z[middle].norm() < 1e-6


def test_what_is_measured_is_that_of_the_networks_there(sampler, digits):
    threat = attacks.Threat("linf", 0.1)
    where = Context(digits, threat, attacks.PGD(threat, steps=1), 4)
    population, _, _ = sampler.draw(2)
    group = Group("sample", population, "mlp", sampler=sampler)
    found = LatentMap().run([group], where, SILENT)
    assert len(found.rows) == SIDE**2 and found.figure is not None
    row = found.rows[3]
    _, _, z, beta = plane(sampler, where.rng())
    images, labels = digits.test.first(1000)
    network = sampler.generate(z[3:4], beta[3:4])[0]
    with torch.no_grad():
        right = network(images).argmax(-1) == labels
    assert row["accuracy"] == pytest.approx(float(right.double().mean()))
    ((first, second),) = pairs_of_classes(digits.test.first(4)[1], 1, where.rng())
    start, end = images[first].double(), images[second].double()
    whole = followed(copy.deepcopy(network).double(), start, end)
    low, high = 0.5 - PART / 2, 0.5 + PART / 2
    inside = int(((whole.bends > low) & (whole.bends < high)).sum()) + 1
    assert row["density"] == pytest.approx(inside / (PART * float((end - start).norm())))
    assert row["error"] == abs(row["estimated"] - row["robustness"])
    assert found.rows[SIDE**2 // 2]["disagreement"] == 0


def test_networks_without_regions_have_no_density(digits):
    config = TrainConfig.of(target="mlp", activation="gelu", beta="0:0.5")
    sampler = Sampler(config, digits.info, ModelBundle.fresh(config, digits.info), 2, digits)
    threat = attacks.Threat("linf", 0.1)
    where = Context(digits, threat, attacks.PGD(threat, steps=1), 4)
    found = LatentMap().run([Group("sample", sampler.draw(2)[0], sampler=sampler)], where, SILENT)
    assert {row["density"] for row in found.rows} == {None} and found.figure is not None


def test_only_samples_of_a_run_have_one():
    with pytest.raises(NotApplicable):
        LatentMap().rows(networks(relu_net), context(), SILENT)
