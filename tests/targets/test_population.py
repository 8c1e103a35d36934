"""Populations: shapes, chunks, sequences of modules, threads, copies, large targets."""

import copy
import itertools
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from targets import Population, TargetError, WeightLayout, build
from tests.targets.modules import Calls, Normed

EXACT = {torch.float32: 0.0, torch.float64: 1e-12}
"""Equal on a CPU to the last bit, on a GPU, where `dtype` is float64, nearly so."""


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def small(networks: int, dtype: torch.dtype = torch.float32) -> Population:
    return Population.of(build("mlp", input_shape=(1, 4, 4)).to(dtype) for _ in range(networks))


def test_shape_of_the_weights():
    module = build("mlp", input_shape=(1, 4, 4))
    for shape in ((2, 11), (WeightLayout.of(module).size,), (1, 1, WeightLayout.of(module).size)):
        with pytest.raises(TargetError, match=r"expected weights \[P, 874\]"):
            Population(module, torch.zeros(shape))
    with pytest.raises(TargetError, match=r"expected weights \[2, 874\], got \[3, 874\]"):
        small(2).with_theta(torch.zeros(3, 874))


def test_batch_norm_wants_all_statistics_and_images_to_measure_them():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    population = Population.of([module])
    some = {name: b for name, b in population.buffers.items() if name != "1.running_var"}
    with pytest.raises(TargetError, match=r"none for \['1.running_var'\]"):
        Population(module, population.theta, some)
    with pytest.raises(TargetError, match="at least one image"):
        population.recalibrate(torch.zeros(0, 1, 4, 4))


@pytest.mark.parametrize("shape", [(2, 5, 1, 4, 4), (5, 1, 4, 4)])
def test_shape_of_the_images(shape):
    with pytest.raises(TargetError, match=r"expected images \[3,B,C,H,W\]"):
        small(3)(torch.zeros(shape))


def test_layouts_alike_are_not_one_architecture():
    kinds = [build("mlp", name, 10, (1, 8, 8)) for name in ("relu", "tanh")]
    with pytest.raises(TargetError, match="one architecture"):
        Population.of(kinds)
    with pytest.raises(TargetError, match="at least one network"):
        Population.of([])
    with pytest.raises(TargetError, match="of modules, got a str"):
        Population.of(["mlp"])  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("answer", [(1, 2), {"logits": 3}, None])
def test_an_answer_that_is_no_tensor(answer):
    population = Population.of([Calls(lambda self, x: answer, layer=nn.Linear(2, 2))])
    with pytest.raises(TargetError, match="logits as one tensor, got a"):
        population(torch.rand(1, 3, 1, 4, 4))


def test_of_one_architecture():
    with pytest.raises(TargetError, match="one architecture"):
        Population.of([build("mlp"), build("lenet5")])


@pytest.mark.parametrize("size", [None, 1, 2, 3, 5, 9])
def test_chunks(size, device, dtype):
    population, images = small(5, dtype).to(device), torch.rand(5, 2, 1, 4, 4).to(device, dtype)
    whole, chunks = population(images), list(population.chunks(size))
    size = size or (1 if device.type == "cpu" else 5)
    assert [i for network_slice, _ in chunks for i in range(5)[network_slice]] == list(range(5))
    assert {len(chunk) for _, chunk in chunks} <= {size, 5 % size} or size > 5
    for network_slice, chunk in chunks:
        logits = chunk(images[network_slice])
        torch.testing.assert_close(logits, whole[network_slice], rtol=0, atol=EXACT[dtype])


def test_choose(device, dtype):
    population, images = small(4, dtype).to(device), torch.rand(4, 2, 1, 4, 4).to(device, dtype)
    chosen = torch.tensor([2, 0, 2])
    logits = population.choose(chosen)(images[chosen])
    torch.testing.assert_close(logits, population(images)[chosen], rtol=0, atol=EXACT[dtype])


def test_leaves_the_module_alone():
    module = Normed().train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    population = Population(module, torch.randn(2, WeightLayout.of(module).size))
    population.recalibrate(torch.rand(8, 1, 6, 6))(torch.rand(2, 5, 1, 6, 6))
    population[0].head.weight.data.zero_()
    assert module.training and population.theta.abs().min() > 0
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_an_index_gives_a_network_of_its_own():
    population = Population.of(Normed(seed) for seed in range(2))
    module = population[1]
    assert not module.training and all(p.requires_grad for p in module.parameters())
    images = torch.rand(2, 5, 1, 6, 6)
    before = population(images)
    torch.testing.assert_close(module(images[1]), before[1])
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    assert torch.equal(population(images), before)


def test_one_population_in_two_threads():
    """Tensors are swapped into a module for a call: threads that shared it would mix weights up."""
    turn, both = itertools.count(), threading.Barrier(2, timeout=10)

    class Meeting(nn.Linear):
        def forward(self, input):
            pause = 0.1 * next(turn)
            both.wait()  # both calls have begun; the first to begin ends before the other goes on
            time.sleep(pause)
            return super().forward(input.flatten(1))

    module = Meeting(3, 2)
    population, images = Population.of([module]), torch.rand(1, 4, 3, 1, 1)
    expected = nn.functional.linear(images.flatten(2), module.weight, module.bias)
    with ThreadPoolExecutor(2) as pool:
        for logits in pool.map(population, [images, images]):
            torch.testing.assert_close(logits, expected)


def test_a_weight_that_two_layers_share():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4, bias=False))
    module[3].weight = module[1].weight
    population, images = Population.of([module]), torch.rand(1, 5, 1, 2, 2)
    assert population.theta.shape == (1, 16 + 4)
    torch.testing.assert_close(population(images)[0], module(images[0]))
    theta = population.theta.clone().requires_grad_()
    (found,) = torch.autograd.grad(population.with_theta(theta)(images).sum(), theta)
    expected = torch.autograd.grad(module(images[0]).sum(), list(module.parameters()))
    torch.testing.assert_close(found[0], torch.cat([g.flatten() for g in expected]))


def test_a_call_that_fails_leaves_no_weights_behind():
    population = Population.of([nn.Sequential(nn.Flatten(), nn.Linear(4, 2))])
    with pytest.raises(TargetError):
        population(torch.rand(1, 5, 1, 3, 3))
    inside = population._skeleton.module
    assert all(t.is_meta and isinstance(t, nn.Parameter) for t in inside.parameters())


def test_weights_changed_between_calls():
    population = Population.of([nn.Sequential(nn.Flatten(), nn.Linear(4, 2))] * 2)
    images = torch.rand(2, 5, 1, 2, 2)
    before = population(images)
    with torch.no_grad():
        population.theta[1] += 1
    after = population(images)
    assert torch.equal(after[0], before[0]) and not torch.equal(after[1], before[1])
    theta = population.theta.requires_grad_()  # from now on every call has a graph of its own
    for _ in range(2):
        (grad,) = torch.autograd.grad(population(images).square().sum(), theta)
        assert grad.abs().sum() > 0


def test_bytes_kept_for_the_backward_pass():
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 10), nn.Tanh(), nn.Linear(10, 3))
    # Inputs of the layers for every image, one of which tanh keeps too; weights once.
    for dtype, size, images in ((torch.float32, 4, 1), (torch.float64, 8, 5)):
        population = Population.of([module.to(dtype)] * 2)
        kept = images * (16 + 10) + 160 + 30
        batch = torch.rand(images, 1, 4, 4, dtype=dtype)
        assert population.bytes_kept(batch) == population[:1].bytes_kept(batch) == size * kept


def test_large_targets_are_divided_without_copying_weights():
    module = nn.Sequential(nn.Flatten(), nn.Linear(784, 4000), nn.ReLU(), nn.Linear(4000, 2000))
    population = Population(module, torch.zeros(2, WeightLayout.of(module).size))  # 11 million each
    for _, chunk in population.chunks(1):
        assert chunk.theta.untyped_storage().data_ptr() == (
            population.theta.untyped_storage().data_ptr()
        )
        held = (*chunk._skeleton.module.parameters(), *chunk._skeleton.module.buffers())
        assert all(tensor.is_meta for tensor in held)


class TestSequence:
    def test_indices(self):
        modules = [build("mlp", input_shape=(1, 4, 4)) for _ in range(4)]
        population = Population.of(modules)
        for index in (0, 3, -1, -4, torch.tensor(2)):
            torch.testing.assert_close(population[index].state_dict(), modules[index].state_dict())
        for index in (4, -5):
            with pytest.raises(IndexError):
                population[index]
        states = [module.state_dict() for module in population]
        torch.testing.assert_close(states, [module.state_dict() for module in modules])

    @pytest.mark.parametrize(
        "chosen", [slice(2), slice(1, None, 2), slice(None, None, -1), slice(-1, 0, -2), slice(9)]
    )
    def test_slices(self, chosen):
        population = small(4)
        assert torch.equal(population[chosen].theta, population.theta[range(4)[chosen]])

    def test_choose_takes_a_list(self):
        population = small(3)
        assert torch.equal(population.choose([2, 0]).theta, population.theta[[2, 0]])

    def test_a_network_is_trained_on_its_own(self):
        population = small(2)
        with torch.inference_mode():
            network = population[0]
        network(torch.rand(3, 1, 4, 4)).sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())

    def test_tied_weights_have_all_their_names(self):
        module = tied()
        module.load_state_dict(Population.of([tied()])[0].state_dict(), strict=True)
        network = Population.of([module])[0]
        assert list(network.state_dict()) == list(module.state_dict())
        assert network[3].weight is network[1].weight


def tied() -> nn.Sequential:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4, bias=False))
    module[3].weight = module[1].weight
    return module


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_copies(copied):
    population = Population.of(Normed(seed) for seed in range(2))
    images = torch.rand(2, 3, 1, 6, 6)
    logits = population(images)
    population.theta.requires_grad_()
    population(images)  # whose tensors have a graph
    other = copied(population)
    with torch.no_grad():
        population.theta.zero_()
    assert torch.equal(other(images), logits) and other.theta.requires_grad
    assert other.architecture == population.architecture
    torch.testing.assert_close(other[1](images[1]), logits[1])


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        ("mlp", (1, 8, 8)),
        ("mlp", (3, 28, 28)),
        ("small-lenet5", (3, 28, 28)),
        ("small-lenet5", (1, 64, 64)),
        ("resnet20", (3, 28, 28)),
    ],
)
def test_images_that_the_networks_are_not_made_for(target, shape, device):
    """In one line, whatever layer notices; and the right ones are taken as before."""
    population = Population.of([build(target).eval() for _ in range(2)]).to(device)
    own = torch.rand(2, 3, 1, 28, 28, device=device)
    before = population(own)
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(TargetError) as told:
            population(torch.rand(2, 3, *shape, dtype=dtype, device=device))
        message = str(told.value)
        assert message.startswith(f"the networks fail on images {list(shape)} of {dtype}: ")
        assert message.endswith("; are they made for such images?") and "\n" not in message
    assert population(own).equal(before)
    if population.has_batch_norm:
        with pytest.raises(TargetError, match="the networks fail on images"):
            population.recalibrate(torch.rand(8, *shape, device=device))


def test_a_gpu_out_of_memory_is_no_matter_of_the_images():
    class Hungry(nn.Flatten):
        def forward(self, images):
            raise torch.OutOfMemoryError("out of memory")

    population = Population.of([nn.Sequential(Hungry(), nn.Linear(4, 2))])
    with pytest.raises(torch.OutOfMemoryError):
        population(torch.rand(1, 1, 1, 2, 2))
