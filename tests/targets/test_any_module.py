"""A population computes what the plain module computes, for any module of ordinary PyTorch."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from targets import ACTIVATIONS, TARGETS, Population, TargetError, build
from targets.traits import traits
from tests.targets.modules import Calls, check


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def vit(self, images):
    """Attention between four patches of an image."""
    patches = self.embed(images).flatten(2).transpose(1, 2)
    mixed, _ = self.attention(patches, patches, patches, need_weights=False)
    return self.head(mixed.mean(1))


def own_attention(self, images):
    q, k, v = self.embed(images).flatten(2).transpose(1, 2).chunk(3, -1)
    return self.head(F.scaled_dot_product_attention(q, k, v).mean(1))


def normalised_in_place(self, images):
    return self.head(images.sub_(0.5).div_(0.25).flatten(1))


def tied(self, images):
    hidden = self.first(images.flatten(1)).tanh()
    return F.linear(hidden, self.first.weight.t())


def dropped(self, images):
    hidden = F.dropout2d(self.conv(images), training=self.training)
    return self.head(F.dropout(hidden.flatten(1), 0.3, training=self.training))


def by_keywords(self, images):
    hidden = F.conv2d(
        stride=(1,), input=images, weight=self.conv.weight, padding=[1], bias=self.conv.bias
    )
    return F.max_pool2d(kernel_size=2, input=hidden, padding=(1,)).flatten(1)


def recurrent(self, images):
    return self.head(self.rnn(images.squeeze(1))[0][:, -1])


def branches(self, images):
    out = self.conv(images)
    flat = out.flatten(1)
    flat.relu_()  # a view in a plain module, which changes `out` too
    return self.head(flat) + out.mean((1, 2, 3)).unsqueeze(1)


def on_numbers(self, images):
    """Takes another course where the images are bright."""
    hidden = self.conv(images)
    hidden = hidden.view(len(images), -1) if images.mean() > 0.1 else hidden.flatten(1)
    return self.head(hidden)


def with_constants(self, images):
    weights = torch.arange(8 * 8).view(8, 8).to(images)
    return self.head((self.conv(images) * weights[1:-1, 1:-1]).flatten(1))


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is deprecated

    @torch.jit.script
    def scripted(x):
        return x.view(x.size(0), -1)


def normed(layer):
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(108, 3))


def conv():
    return nn.Conv2d(1, 3, 3)


MODULES = {
    "issue": lambda: nn.Sequential(nn.Conv2d(1, 8, (3, 7), (1, 2)), nn.Flatten()),
    "attention": lambda: Calls(
        vit,
        embed=nn.Conv2d(1, 8, 4, 4),
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
        head=nn.Linear(8, 3),
    ),
    "own attention": lambda: Calls(
        own_attention, embed=nn.Conv2d(1, 12, 4, 4), head=nn.Linear(4, 3)
    ),
    "encoder": lambda: nn.Sequential(
        nn.Conv2d(1, 8, 4, 4),
        nn.Flatten(2),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        nn.Flatten(),
    ),
    "in place": lambda: Calls(normalised_in_place, head=nn.Linear(64, 3)),
    "tied": lambda: Calls(tied, first=nn.Linear(64, 5)),
    "dropout": lambda: Calls(dropped, conv=conv(), head=nn.Linear(108, 3)),
    "keywords": lambda: Calls(by_keywords, conv=conv()),
    "recurrent": lambda: Calls(
        recurrent, rnn=nn.LSTM(8, 5, batch_first=True), head=nn.Linear(5, 3)
    ),
    "branches": lambda: Calls(branches, conv=conv(), head=nn.Linear(108, 3)),
    "on numbers": lambda: Calls(on_numbers, conv=conv(), head=nn.Linear(108, 3)),
    "constants": lambda: Calls(with_constants, conv=conv(), head=nn.Linear(108, 3)),
    "scripted": lambda: nn.Sequential(
        conv(), Calls(lambda self, x: scripted(x)), nn.Linear(108, 3)
    ),
    "weight norm": lambda: normed(nn.utils.parametrizations.weight_norm(conv())),
    "spectral norm": lambda: normed(nn.utils.parametrizations.spectral_norm(conv())),
    "no batch-norm statistics": lambda: nn.Sequential(
        conv(), nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten(), nn.Linear(108, 3)
    ),
}
NOT_BY_VMAP = {"keywords", "recurrent", "on numbers"}
"""What `vmap` does not do on modules without numbers; on a GPU these are evaluated in turn."""


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean")
def test_module(name):
    check(MODULES[name]().eval(), torch.rand(4, 1, 8, 8))


@pytest.mark.parametrize("name", MODULES)
def test_by_vmap(name):
    modules = [MODULES[name]().eval() for _ in range(2)]
    images = torch.rand(2, 4, 1, 8, 8)
    population = Population.of(modules)
    assert population._skeleton.vmappable(images[0]) == (name not in NOT_BY_VMAP)
    if name not in NOT_BY_VMAP:
        for mode in (torch.no_grad, torch.enable_grad):
            with mode():
                found = population._vmap(population._tensors(), images)
            torch.testing.assert_close(found, population(images), rtol=1e-4, atol=1e-5)


def test_images_are_not_changed():
    population = Population.of(MODULES["in place"]() for _ in range(3))
    images = torch.rand(1, 4, 1, 8, 8)
    before = images.clone()
    logits = population(images.expand(3, *images.shape[1:]))
    assert torch.equal(images, before)
    for index, network in enumerate(population):
        torch.testing.assert_close(logits[index], network(images[0].clone()))


@pytest.mark.parametrize("size", [1, 3])
def test_a_network_of_torchvision(size):
    from torchvision import models

    module = models.mobilenet_v3_small(num_classes=size + 1).double().eval()
    images = torch.rand(2, 2, 3, 32, 32, dtype=torch.float64)
    population = Population.of([module, module])
    population = population.recalibrate(images[0])
    expected = population[1](images[1])
    torch.testing.assert_close(population(images)[1], expected)
    torch.testing.assert_close(population._vmap(population._tensors(), images)[1], expected)
    assert population[1].state_dict().keys() == module.state_dict().keys()


@pytest.mark.parametrize("transform", ["grad", "jvp", "vmap", "autocast", "forward_ad"])
def test_under_transforms_of_functions(transform):
    """The population of one convolution in these is what the convolution alone is."""
    module = nn.Sequential(conv(), nn.MaxPool2d(2), nn.Flatten()).eval()
    population, images = Population.of([module]), torch.rand(2, 1, 8, 8)

    def alone(images):
        return population(images[None])[0]

    outcomes = []
    for model in (module, alone):
        if transform == "grad":
            outcomes.append(torch.func.grad(lambda x: model(x).square().sum())(images))  # noqa: B023
        elif transform == "jvp":
            outcomes.append(torch.func.jvp(model, (images,), (torch.ones_like(images),)))
        elif transform == "vmap":
            outcomes.append(torch.func.vmap(lambda x: model(x[None]))(images))  # noqa: B023
        elif transform == "forward_ad":
            with torch.autograd.forward_ad.dual_level():
                dual = torch.autograd.forward_ad.make_dual(images, torch.ones_like(images))
                outcomes.append(torch.autograd.forward_ad.unpack_dual(model(dual)).tangent)
        else:
            points = images.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16):
                logits = model(points)
            outcomes.append((logits, *torch.autograd.grad(logits.float().sum(), points)))
    torch.testing.assert_close(outcomes[1], outcomes[0])


@pytest.mark.parametrize("name", ["keywords", "attention", "dropout", "branches"])
def test_copies_of_populations(name):
    population = Population.of([MODULES[name]()])
    images = torch.rand(1, 4, 1, 8, 8)
    for other in (copy.deepcopy(population), pickle.loads(pickle.dumps(population))):
        assert torch.equal(other(images), population(images))


def test_a_large_module_is_tried_once():
    tries = []

    def forward(self, images):
        tries.append(images.is_meta)
        return self.head(images.flatten(1))

    module = Calls(forward, head=nn.Linear(64, 3))
    for _ in range(3):
        Population.of([module])(torch.rand(1, 4, 1, 8, 8))
    assert sum(tries) == 1


def test_a_scripted_module_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(1, 2, 2))
    with pytest.raises(TargetError, match="a target cannot be scripted or traced"):
        Population.of([module])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("target", "activation"),
    [(t, "prelu") for t in TARGETS if t != "wide-mlp" and not t.startswith("resnet56")]  # resnet20
    + [("small-lenet5", a) for a in ACTIVATIONS],
)
def test_shipped_targets_are_fast(target, activation, training):
    with torch.device("cpu" if "kaf" in activation else "meta"):
        module = build(target, activation, input_shape=(3, 64, 64)).train(training)
    found = traits(module, torch.rand(2, 3, 64, 64))
    assert found.ignores_memory_format and not found.changes_images
