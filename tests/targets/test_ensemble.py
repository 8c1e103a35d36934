"""Ensembles: the mean of probabilities, as a module."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from targets import Ensemble, Population, TargetError, build
from tests.targets.modules import Normed


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def voters(networks: int = 3) -> Ensemble:
    return Ensemble(Population.of(Normed(seed) for seed in range(networks)))


IMAGES = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))


def test_an_ensemble_is_the_mean_of_its_members_probabilities():
    modules = [build("mlp") for _ in range(3)]
    images = torch.rand(7, 1, 28, 28)
    ensemble = Ensemble(Population.of(modules))
    with torch.no_grad():
        mean = torch.stack([m.eval()(images).softmax(-1) for m in modules]).mean(0)
        voted = ensemble(images)
    assert voted.shape == (7, 10)
    torch.testing.assert_close(voted.exp(), mean)


def test_it_is_attacked_as_a_population_of_one():
    ensemble = voters()
    assert len(ensemble) == 1
    assert torch.equal(ensemble(IMAGES[None])[0], ensemble(IMAGES))
    ((network_slice, chunk),) = ensemble.chunks(5)
    assert network_slice == slice(0, 1) and chunk is ensemble


@pytest.mark.parametrize("shape", [(2, 5, 1, 6, 6), (1, 6, 6), (1, 1, 5, 1, 6, 6)])
def test_shape_of_the_images(shape):
    with pytest.raises(TargetError, match=r"expected images \[B,C,H,W\] or \[1,B,C,H,W\]"):
        voters()(torch.rand(shape))


def test_members_stay_the_population_that_was_given():
    population = Population.of(Normed(seed) for seed in range(2))
    ensemble = Ensemble(population)
    assert ensemble.members is population and ensemble.members.theta is ensemble.theta


def test_gradients_reach_the_weights():
    population = Population.of(Normed(seed) for seed in range(2))
    theta = population.theta.clone().requires_grad_()
    (grad,) = torch.autograd.grad(Ensemble(population.with_theta(theta))(IMAGES).sum(), theta)
    assert grad.isfinite().all() and (grad.abs().sum(1) > 0).all()


def test_it_is_moved_as_a_whole(device):
    ensemble = voters()
    expected = ensemble(IMAGES)
    moved = ensemble.to(device, torch.float64)
    assert moved is ensemble
    found = ensemble(IMAGES.to(device, torch.float64))
    assert found.dtype == torch.float64 and found.device.type == device.type
    torch.testing.assert_close(found.cpu().float(), expected)
    assert all(buffer.device.type == device.type for buffer in ensemble.members.buffers.values())
    assert ensemble.members.buffers["norm.running_mean"].dtype == torch.float64
    assert ensemble.members.buffers["norm.num_batches_tracked"].dtype == torch.int64


@pytest.mark.parametrize("assign", [True, False])
def test_its_state_is_that_of_its_members(assign):
    one = Ensemble(Population.of(Normed(seed) for seed in range(2)).recalibrate(IMAGES))
    other = Ensemble(Population.of(Normed(seed) for seed in range(2, 4)))
    other(IMAGES)
    raw = io.BytesIO()
    torch.save(one.state_dict(), raw)
    raw.seek(0)
    other.load_state_dict(torch.load(raw, weights_only=True), assign=assign)
    assert torch.equal(other(IMAGES), one(IMAGES))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies(copied):
    ensemble = voters()
    expected = ensemble(IMAGES)
    other = copied(ensemble)
    with torch.no_grad():
        ensemble.theta.zero_()
    assert other.members.theta is other.theta
    assert torch.equal(other(IMAGES), expected)


def test_it_is_a_module_among_others():
    net = nn.Sequential(nn.Identity(), voters()).eval()
    assert {name for name, _ in net.named_buffers()} >= {"1.theta"}
    with torch.inference_mode():
        assert net(IMAGES).shape == (5, 3)


@pytest.mark.filterwarnings("ignore")
def test_it_can_be_exported():
    ensemble = voters().eval()
    program = torch.export.export(ensemble, (IMAGES,))
    torch.testing.assert_close(program.module()(IMAGES), ensemble(IMAGES))
    assert torch.equal(ensemble(IMAGES), voters()(IMAGES))  # which is as fast as before


@pytest.mark.parametrize("members", [[], [nn.Linear(2, 2)], nn.Linear(2, 2), None], ids=str)
def test_an_ensemble_is_of_a_population(members):
    with pytest.raises(TargetError, match=r"an ensemble is of a population, got .*Population.of"):
        Ensemble(members)


def test_an_ensemble_is_not_of_nobody():
    population = Population.of([nn.Sequential(nn.Flatten(), nn.Linear(4, 2))] * 2)
    with pytest.raises(TargetError, match="at least one network"):
        Ensemble(population[:0])


@pytest.mark.parametrize("as_one", [True, False], ids=["ensemble", "population"])
def test_images_must_be_a_dense_tensor(as_one):
    population = Population.of([build("mlp", "relu", 10, (1, 8, 8)) for _ in range(2)])
    networks = Ensemble(population) if as_one else population
    images = torch.rand(1 if as_one else 2, 3, 1, 8, 8)
    for bad, kind in ((images.to_sparse(), "sparse_coo"), (images.numpy(), "ndarray"), (5, "int")):
        with pytest.raises(TargetError, match=f"expected images as a .*tensor, got .*{kind}"):
            networks(bad)
