"""Populations: shapes, pieces, threads, batch norm, large targets."""

import _thread
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from targets import Ensemble, Population, TargetError, WeightLayout, build, concurrently


class Normed(nn.Module):
    """A small residual net with batch norm, a weight per channel and a fixed dictionary."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.act, self.conv = nn.PReLU(4), nn.Conv2d(4, 4, 3, padding=1)
        self.pool, self.norm1d = nn.AdaptiveAvgPool2d(2), nn.BatchNorm1d(16)
        self.head = nn.Linear(16, 3)
        self.register_buffer("dictionary", torch.linspace(-1, 1, 3), persistent=False)

    def forward(self, images):
        x = self.act(self.norm(self.stem(images)))
        x = self.norm1d(self.pool(x + self.conv(x)).flatten(1))
        return self.head(x) + self.dictionary


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


def test_of_one_architecture():
    with pytest.raises(TargetError, match="one architecture"):
        Population.of([build("mlp"), build("lenet5")])


@pytest.mark.parametrize("size", [None, 1, 2, 3, 5, 9])
def test_pieces(size, device, dtype):
    population, images = small(5, dtype).to(device), torch.rand(5, 2, 1, 4, 4).to(device, dtype)
    whole, pieces = population(images), list(population.pieces(size))
    size = size or (1 if device.type == "cpu" else 5)
    assert [i for place, _ in pieces for i in range(5)[place]] == list(range(5))
    assert {len(piece) for _, piece in pieces} <= {size, 5 % size} or size > 5
    for place, piece in pieces:
        torch.testing.assert_close(piece(images[place]), whole[place], rtol=0, atol=EXACT[dtype])


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
    population.module_at(0).head.weight.data.zero_()
    assert module.training and population.theta.abs().min() > 0
    for name, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_module_at_is_a_network_of_its_own():
    population = Population.of(Normed(seed) for seed in range(2))
    module = population.module_at(1)
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
    with pytest.raises(RuntimeError):
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
    for _, piece in population.pieces(1):
        assert piece.theta.untyped_storage().data_ptr() == (
            population.theta.untyped_storage().data_ptr()
        )
        held = (*piece._skeleton.module.parameters(), *piece._skeleton.module.buffers())
        assert all(tensor.is_meta for tensor in held)


class TestBatchNorm:
    images = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))

    def population(self) -> Population:
        return Population.of(Normed(seed) for seed in range(2))

    def test_statistics_are_those_of_the_images(self, device):
        images = self.images.to(device)
        population = self.population().to(device).recalibrate(images)
        for index in range(2):
            before = population.module_at(index).stem(images).transpose(0, 1).flatten(1)
            mean, var = (
                population.buffers["norm.running_mean"],
                population.buffers["norm.running_var"],
            )
            torch.testing.assert_close(mean[index], before.mean(1))
            torch.testing.assert_close(var[index], before.var(1))

    def test_deeper_statistics_are_taken_behind_normalised_layers(self):
        population = self.population().recalibrate(self.images)
        module = population.module_at(0)
        seen = []
        module.norm1d.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        module.norm.train()(module.stem(self.images))  # normalises by the batch, as then
        module(self.images)
        torch.testing.assert_close(population.buffers["norm1d.running_mean"][0], seen[0].mean(0))
        torch.testing.assert_close(population.buffers["norm1d.running_var"][0], seen[0].var(0))

    def test_several_batches_are_averaged(self):
        population = self.population().recalibrate(self.images, batch_size=4)
        before = population.module_at(1).stem(self.images)
        var = torch.stack([part.transpose(0, 1).flatten(1).var(1) for part in before.split(4)])
        torch.testing.assert_close(
            population.buffers["norm.running_mean"][1], before.mean((0, 2, 3))
        )
        torch.testing.assert_close(population.buffers["norm.running_var"][1], var.mean(0))

    @pytest.mark.parametrize("at_once", [None, 1, 2])
    @pytest.mark.parametrize("batch_size", [256, 4])
    def test_together_they_are_the_same(self, device, batch_size, at_once):
        population = Population.of(Normed(seed) for seed in range(3)).to(device)
        images = self.images.to(device)
        used = population.recalibrate(images * 0.5)  # old statistics are forgotten here too
        batches = images.split(batch_size)
        looped, together = used._statistics_loop(batches), used._statistics_vmap(batches, at_once)
        assert looped.keys() == together.keys()
        for name, buffer in looped.items():
            torch.testing.assert_close(buffer, together[name], msg=name)

    def test_no_batch_of_one(self):
        """Which batch norm behind a dense layer could not take: 13 images are 4, 3, 3, 3."""
        images = torch.cat([self.images, self.images[:1]])
        population = self.population().recalibrate(images, batch_size=4)
        assert population.buffers["norm1d.num_batches_tracked"].tolist() == [4, 4]

    def test_old_statistics_are_forgotten(self):
        population = self.population()
        once = population.recalibrate(self.images)
        twice = population.recalibrate(self.images * 0.5).recalibrate(self.images)
        for name, buffer in once.buffers.items():
            assert torch.equal(buffer, twice.buffers[name])
        assert torch.equal(population.buffers["norm.running_var"], torch.ones(2, 4))

    def test_frozen_in_evaluation(self):
        population = self.population().recalibrate(self.images)
        before = {name: buffer.clone() for name, buffer in population.buffers.items()}
        images = torch.rand(2, 5, 1, 6, 6)
        together = population(images)
        for i in range(5):
            torch.testing.assert_close(population(images[:, i : i + 1])[:, 0], together[:, i])
        for name, buffer in population.buffers.items():
            assert torch.equal(buffer, before[name])

    @pytest.mark.parametrize("way", ["_loop", "_vmap"])
    def test_by_batch_it_is_ordinary_training(self, device, way):
        double = Population.of(Normed(seed).double() for seed in range(2)).to(device)
        population = double.recalibrate(self.images.to(device).double())
        before = {name: buffer.clone() for name, buffer in population.buffers.items()}
        images = torch.rand(2, 5, 1, 6, 6, dtype=torch.double, device=device, requires_grad=True)
        theta = population.theta.clone().requires_grad_()
        learners = population.with_theta(theta).normalized_by_batch()
        tensors = learners._each() if way == "_loop" else learners._tensors()
        found = getattr(learners, way)(tensors, images)
        by_theta, by_images = torch.autograd.grad(found.square().sum(), (theta, images))
        for i in range(2):
            module, own = population.module_at(i).train(), images[i].detach().requires_grad_()
            logits = module(own)
            logits.square().sum().backward()
            grads = [p.grad.flatten() for p in module.parameters()]
            torch.testing.assert_close(found[i], logits)
            torch.testing.assert_close(by_theta[i], torch.cat(grads))
            torch.testing.assert_close(by_images[i], own.grad)
        for name, buffer in population.buffers.items():
            assert torch.equal(buffer, before[name])  # nor is anything measured on the way
        after = population(images)
        torch.testing.assert_close(population.module_at(0)(images[0]), after[0])

    def test_follows_the_population(self):
        population = self.population().recalibrate(self.images)
        images = torch.rand(2, 5, 1, 6, 6)
        logits = population(images)
        assert torch.equal(population.with_theta(population.theta)(images), logits)
        torch.testing.assert_close(population._vmap(population._tensors(), images), logits)
        for place, piece in population.pieces():
            assert torch.equal(piece(images[place]), logits[place])
        module = Normed(5)
        module.load_state_dict(population.module_at(1).state_dict(), strict=True)
        torch.testing.assert_close(module.eval()(images[1]), logits[1])

    def test_target_without_it_comes_back(self):
        population = small(2)
        assert population.recalibrate(torch.rand(4, 1, 4, 4)) is population
        assert population.normalized_by_batch() is population


class TestConcurrently:
    @pytest.fixture(autouse=True)
    def _two_cores(self):
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        yield
        torch.set_num_threads(threads)

    def test_order(self):
        def slow_first(item):
            time.sleep(0.02 if item == 0 else 0)
            return item * item

        assert list(concurrently(slow_first, iter(range(6)))) == [0, 1, 4, 9, 16, 25]

    def test_one_core_each_and_all_back_after(self):
        both = threading.Barrier(2, timeout=10)

        def cores(_):
            both.wait()  # passes only when two run at once
            return torch.get_num_threads()

        assert list(concurrently(cores, range(4))) == [1, 1, 1, 1]
        assert torch.get_num_threads() == 2

    def test_threads_are_kept(self):
        """And with them their copies of modules."""
        both = threading.Barrier(2, timeout=10)

        def thread(_):
            both.wait()
            return threading.get_ident()

        first, second = (set(concurrently(thread, range(2))) for _ in range(2))
        assert first == second and len(first) == 2

    def test_fewer_at_once(self):
        alone = threading.Lock()

        def run(item):
            assert alone.acquire(blocking=False)
            time.sleep(0.002)
            alone.release()
            return item

        assert list(concurrently(run, range(6), at_once=1)) == list(range(6))

    def test_exceptions(self):
        ran = []

        def fails(item):
            ran.append(item)
            if item == 1:
                raise TargetError("no such network")
            time.sleep(0.002)  # or all might be done before the error is seen
            return item

        results = concurrently(fails, range(1000))
        assert next(results) == 0
        with pytest.raises(TargetError, match="no such network"):
            list(results)
        assert len(ran) < 1000, "the rest should have been called off"
        assert torch.get_num_threads() == 2

    @pytest.mark.parametrize("interrupted", [True, False])
    def test_what_is_running_is_waited_for(self, interrupted):
        """Whether the caller is interrupted meanwhile, or there is no next item."""
        begun, ended = threading.Event(), []

        def run(item):
            begun.set()
            if interrupted:
                _thread.interrupt_main()
            time.sleep(0.1)
            ended.append(item)

        def items():
            yield 0
            if not interrupted:
                assert begun.wait(10)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(concurrently(run, items()))
        assert ended == [0] and torch.get_num_threads() == 2

    def test_long_items_are_told_to_stop(self):
        stop, both = threading.Event(), threading.Barrier(2, timeout=10)

        def run(item):
            both.wait()
            if item == 0:
                raise TargetError("no such network")
            assert stop.wait(10), "never told"

        with pytest.raises(TargetError):
            list(concurrently(run, range(2), stop=stop))
        assert stop.is_set()

    @pytest.mark.parametrize("recording", [True, False])
    def test_records_gradients_where_the_caller_does(self, recording):
        with torch.set_grad_enabled(recording):
            assert list(concurrently(lambda _: torch.is_grad_enabled(), [0])) == [recording]

    def test_nothing_to_do(self):
        assert list(concurrently(print, [])) == []


def test_an_ensemble_is_the_mean_of_its_members_probabilities():
    modules = [build("mlp") for _ in range(3)]
    images = torch.rand(7, 1, 28, 28)
    ensemble = Ensemble(Population.of(modules))
    with torch.no_grad():
        mean = torch.stack([m.eval()(images).softmax(-1) for m in modules]).mean(0)
        voted = ensemble(images[None])
    assert len(ensemble) == 1 and voted.shape == (1, 7, 10)
    torch.testing.assert_close(voted[0].exp(), mean)
    assert [place for place, _ in ensemble.pieces(5)] == [slice(0, 1)]
    with pytest.raises(TargetError, match=r"expected images \[1,B,C,H,W\]"):
        ensemble(images.expand(2, *images.shape))
