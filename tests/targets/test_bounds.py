"""Bounds: exact where the exact answer is known, and sound for networks of all kinds."""

import itertools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from targets import ACTIVATIONS, Population, TargetError, bounds, build
from targets.bounds import METHODS, logit_bounds, margin_bounds
from tests.targets.modules import Calls, Normed

BOTH = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def dense(weights: Tensor, bias: Tensor | None = None) -> nn.Linear:
    layer = nn.Linear(*weights.T.shape, bias=bias is not None, dtype=weights.dtype)
    layer.weight.data = weights
    if bias is not None:
        layer.bias.data = bias
    return layer


def two_layers(first: Tensor, bias: Tensor, second: Tensor, activation=nn.ReLU) -> nn.Module:
    return nn.Sequential(nn.Flatten(), dense(first, bias), activation(), dense(second))


def margins(population: Population, images: Tensor, labels: Tensor) -> Tensor:
    """[P,B,K], by how much each class exceeds the true one; images [P,B,C,H,W]."""
    logits = population(images)
    return logits - logits.gather(-1, labels.expand(logits.shape[:2])[..., None])


class TestExact:
    @BOTH
    def test_two_layers_by_hand(self, method):
        """Image (0.5, 0.5), radius 0.1: hidden units in [-0.2, 0.2] and [0.3, 0.7], by hand."""
        first = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
        second = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]])
        module = two_layers(first, torch.tensor([0.0, -0.5]), second)
        population, images = Population.of([module]), torch.full((1, 1, 1, 2), 0.5)
        lower, upper = logit_bounds(population, images, 0.1, method)
        # ReLU: [0, 0.2] and [0.3, 0.7]; logits: a, b and 2 b - a.
        least, most = [0.0, 0.3, 0.4], [0.2, 0.7, 1.4]
        # z_0 - z_1 = a - b, z_2 - z_1 = b - a, whose hidden units know nothing of each other.
        other = [0.2 - 0.3, 0.0, 0.7 - 0.0]
        if method == "crown-ibp":
            # a <= (x - y) / 2 + 0.1 and b = 2 x - 0.5, so a - b <= 0.6 - 1.5 x - 0.5 y,
            # largest at 0.4, 0.4; and 2 b - a >= 3.5 x + 0.5 y - 1.1, least there.
            other[0], least[2] = -0.2, 0.5
        torch.testing.assert_close(lower[0, 0], torch.tensor(least))
        torch.testing.assert_close(upper[0, 0], torch.tensor(most))
        found = margin_bounds(population, images, torch.tensor([1]), 0.1, method)
        torch.testing.assert_close(found[0, 0], torch.tensor(other))

    @BOTH
    def test_units_that_share_no_pixel_are_bounded_exactly(self, method):
        """Of 20 units with two pixels each the exact answer is a sum over single units."""
        first, bias = torch.zeros(20, 40, dtype=torch.float64), 0.3 * torch.randn(20).double()
        for unit in range(20):
            first[unit, 2 * unit : 2 * unit + 2] = torch.randn(2)
        second = torch.randn(4, 20).double()
        population = Population.of([two_layers(first, bias, second)])
        images, labels = torch.rand(6, 1, 4, 10).double(), torch.tensor([0, 1, 2, 3, 0, 1])
        found = margin_bounds(population, images, labels, 0.15, method)[0]
        reach = torch.tensor([[-0.15], [0.15]]).double()
        ends = (images.flatten(1)[:, None] + reach).clamp(0, 1)  # [B,2,40]
        for index, label in enumerate(labels):
            units = []
            for i, j in itertools.product((0, 1), repeat=2):  # the corners of each unit's square
                corner = ends[index, i].clone()
                corner[1::2] = ends[index, j, 1::2]
                units.append((first @ corner + bias).relu())
            difference = second - second[label]
            exact = (difference[:, None] * torch.stack(units)).amax(1).sum(-1)
            torch.testing.assert_close(found[index], exact)

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 10**6), radius=st.sampled_from([0.01, 0.1, 0.4]))
    def test_twenty_units_by_enumeration(self, seed, radius):
        population, images, labels, exact = enumerated(seed, radius)
        ibp, crown = (margin_bounds(population, images, labels, radius, m)[0] for m in METHODS)
        assert (exact <= crown + 1e-9).all() and (crown <= ibp + 1e-9).all()
        for bound in (ibp, crown):  # nothing is certified that is not so
            assert not ((bound.argmax(-1) == labels) & (exact.argmax(-1) != labels)).any()

    def test_crown_is_exact_where_no_unit_changes_sides(self):
        found = 0
        for seed in range(8):
            radius = 0.002
            population, images, labels, exact = enumerated(seed, radius)
            hidden = population[0][:2](images)
            reach = radius * population[0][1].weight.abs().sum(1)
            steady = (hidden.abs() > reach).all(1)
            crown = margin_bounds(population, images, labels, radius, "crown-ibp")[0]
            torch.testing.assert_close(crown[steady], exact[steady])
            found += int(steady.sum())
        assert found > 20


def enumerated(seed: int, radius: float) -> tuple[Population, Tensor, Tensor, Tensor]:
    """20 units on images of 2 pixels, and the most by which classes exceed the true one, [B,3].

    Exact: the lines where units change sides cut the square into parts in which the network is
    affine, so it is largest where two lines meet, edges of the square among them.
    """
    rng = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, dtype=torch.float64)

    first, bias, second = 2 * normal(20, 2), normal(20), normal(3, 20)
    population = Population.of([two_layers(first, bias, second)])
    images = torch.rand(5, 1, 1, 2, generator=rng, dtype=torch.float64)
    labels = torch.randint(3, (5,), generator=rng)
    exact = []
    for image, label in zip(images.flatten(1), labels, strict=True):
        low, high = (image - radius).clamp_min(0), (image + radius).clamp_max(1)
        sides = torch.eye(2, dtype=torch.float64)
        normals = torch.cat([first, sides, sides])
        shifts = torch.cat([-bias, low, high])
        pairs = torch.tensor(list(itertools.combinations(range(24), 2)))
        systems, right = normals[pairs], shifts[pairs]
        regular = torch.linalg.det(systems).abs() > 1e-9
        points = torch.linalg.solve(systems[regular], right[regular])
        inside = ((points >= low - 1e-12) & (points <= high + 1e-12)).all(1)
        logits = (points[inside] @ first.T + bias).relu() @ second.T
        exact.append((logits - logits[:, label, None]).amax(0))
    return population, images, labels, torch.stack(exact)


def activations() -> st.SearchStrategy:
    return st.sampled_from(
        [
            nn.ReLU(),
            nn.ReLU(inplace=True),
            nn.LeakyReLU(0.2),
            nn.LeakyReLU(-0.3),
            nn.LeakyReLU(1.5),
            nn.PReLU(3, 0.25),
            nn.Sigmoid(),
            nn.Tanh(),
            nn.ELU(),
            nn.CELU(0.5),
            nn.SELU(),
            nn.Softplus(),
            nn.Hardtanh(-0.5, 0.5),
            nn.ReLU6(),
            nn.Hardsigmoid(),
            nn.LogSigmoid(),
            nn.Softsign(),
            Calls(lambda self, x: x.abs()),
            Calls(lambda self, x: torch.maximum(x, 0.5 * x.mean((2, 3), keepdim=True))),
        ]
    )


def linear_layers() -> st.SearchStrategy:
    return st.sampled_from(
        [
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Conv2d(3, 3, (2, 3), stride=(2, 1), padding="valid", bias=False),
            nn.Conv2d(3, 3, 3, padding=1, groups=3),
            nn.Conv2d(3, 3, 3, padding=2, dilation=2, padding_mode="circular"),
            nn.ConvTranspose2d(3, 3, 2, stride=2),
            nn.BatchNorm2d(3),
            nn.BatchNorm2d(3, affine=False),
            nn.MaxPool2d(2),
            nn.MaxPool2d(3, stride=1, padding=1),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            nn.MaxPool2d((2, 1)),
            nn.AvgPool2d(2),
            nn.AvgPool2d(3, stride=2, padding=1),
            nn.AdaptiveAvgPool2d(3),
            nn.AdaptiveMaxPool2d((3, 2)),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Dropout2d(0.5),
            nn.Identity(),
            Calls(lambda self, x: F.pad(x, (1, 0, 0, 2), value=0.5)),
            Calls(lambda self, x: x[:, :, ::2, 1:]),
            Calls(lambda self, x: x.permute(0, 1, 3, 2) * -2.5 + 0.5),
            Calls(lambda self, x: 1 - x / 3),
            Calls(lambda self, x: -x + self.conv(x).relu(), conv=nn.Conv2d(3, 3, 1)),
            Calls(lambda self, x: x - self.conv(x), conv=nn.Conv2d(3, 3, 1)),
            Calls(lambda self, x: torch.cat([x, x.tanh()], 2)),
            Calls(lambda self, x: x.reshape(x.size(0), 3, -1, 1) + x.amax((2, 3), True)),
        ]
    )


@settings(max_examples=20, deadline=None)
@given(
    layers=st.lists(st.one_of(activations(), linear_layers()), min_size=1, max_size=4),
    seed=st.integers(0, 10**6),
    radius=st.sampled_from([0.003, 0.03, 0.3]),
)
def test_sound_for_networks_of_all_kinds(layers, seed, radius):
    torch.manual_seed(seed)
    features = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), *layers).eval()
    for part in features.modules():
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()  # pyright: ignore
    try:
        made = features(torch.rand(1, 1, 8, 8))
        made.sum().backward()
        size = made.numel()
    except RuntimeError:  # pooled away, or overwritten in place what a gradient needs
        size = 0
    assume(size > 0)
    module = nn.Sequential(features, nn.Flatten(), nn.Linear(size, 4)).eval()
    population = Population.of([module]).recalibrate(torch.rand(16, 1, 8, 8))
    images, labels = torch.rand(3, 1, 8, 8), torch.randint(4, (3,))
    ibp, crown = (margin_bounds(population, images, labels, radius, m) for m in METHODS)
    assert (crown <= ibp).all()
    lower, upper = logit_bounds(population, images, radius, "crown-ibp")
    for points in visited(population, images, labels, radius):
        logits = population(points)
        room = 1e-4 * (1 + logits.abs().max())
        assert ((logits >= lower - room) & (logits <= upper + room)).all()
        assert (margins(population, points, labels) <= crown + room).all()


def visited(population: Population, images: Tensor, labels: Tensor, radius: float):
    """Points [1,B,C,H,W] inside the radius: random ones, corners, and steps of PGD."""
    for _ in range(5):
        noise = 2 * torch.rand(1, *images.shape) - 1
        yield (images + radius * noise).clamp(0, 1)
        yield (images + radius * noise.sign()).clamp(0, 1)
    for target in range(4):
        points = images[None].clone()
        for _ in range(3):
            points.requires_grad_()
            worst = margins(population, points, labels)[..., target].sum()
            (gradient,) = torch.autograd.grad(worst, points)
            moved = points.detach() + radius * gradient.sign()
            points = torch.maximum(torch.minimum(moved, images + radius), images - radius)
            points = points.clamp(0, 1)
            yield points


@BOTH
@pytest.mark.parametrize("name", ["small-lenet5", "mlp", "vgg", "resnet20", "light-cnn"])
def test_sound_for_targets_and_exact_without_a_radius(name, method):
    shapes = {"mlp": (1, 8, 8), "small-lenet5": (1, 28, 28), "vgg": (3, 32, 32)}
    shape = shapes.get(name, (3, 16, 16))
    population = Population.of([build(name, "relu", 4, shape)])
    population = population.recalibrate(torch.rand(16, *shape))
    images, labels = torch.rand(2, *shape), torch.tensor([3, 1])
    with torch.no_grad():
        bound = margin_bounds(population, images, labels, 1e-3, method)
    for points in visited(population, images, labels, 1e-3):
        assert (margins(population, points, labels) <= bound + 1e-3).all()
    with torch.no_grad():
        still = margin_bounds(population, images, labels, 0.0, method)
        answer = margins(population, images[None], labels)
    torch.testing.assert_close(still, answer, rtol=1e-4, atol=1e-4)


@BOTH
def test_packed_equals_alone_each_with_its_radius(method):
    population = Population.of(Normed(seed) for seed in range(3))
    population = population.recalibrate(torch.rand(16, 1, 6, 6))
    images, labels = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 0])
    radii = torch.tensor([0.0, 0.01, 0.1])
    packed = margin_bounds(population, images, labels, radii, method)
    for index, radius in enumerate(radii.tolist()):
        alone = margin_bounds(population[index : index + 1], images, labels, radius, method)
        torch.testing.assert_close(alone[0], packed[index])


@BOTH
@pytest.mark.parametrize("make", [Normed, lambda: build("small-lenet5", "relu", 3, (1, 18, 18))])
def test_all_at_once_as_on_a_gpu_equals_one_by_one(method, make, monkeypatch):
    population = Population.of(make() for _ in range(3))
    size = 6 if make is Normed else 18
    images, labels = torch.rand(4, 1, size, size), torch.tensor([0, 1, 2, 0])
    expected = margin_bounds(population, images, labels, 0.05, method)
    monkeypatch.setattr(bounds, "_one_by_one", lambda images: False)
    found = margin_bounds(population, images, labels, 0.05, method)
    torch.testing.assert_close(found, expected)


@BOTH
@pytest.mark.parametrize("activation", ["relu", "prelu", "tanh"])
def test_gradients_equal_finite_differences(method, activation):
    module = nn.Sequential(
        nn.Conv2d(1, 2, 2),
        ACTIVATIONS[activation](2),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(2),
        nn.Flatten(),
        nn.Linear(2, 3),
    ).double()
    population = Population.of([module.eval()] * 2)
    theta = population.theta + 0.5 * torch.randn_like(population.theta)
    images, labels = torch.rand(2, 1, 3, 3).double(), torch.tensor([2, 0])

    def bound(theta: Tensor) -> Tensor:
        return margin_bounds(population.with_theta(theta), images, labels, 0.1, method)

    assert torch.autograd.gradcheck(bound, theta.requires_grad_(), fast_mode=True)


@BOTH
def test_batch_norm_by_the_batch_has_the_statistics_of_the_images(method):
    population = Population.of(Normed(seed) for seed in range(2))
    images, labels = torch.rand(8, 1, 6, 6), torch.arange(8) % 3
    by_batch = population.normalized_by_batch()
    bound = margin_bounds(by_batch, images, labels, 0.0, method)
    expected = margins(by_batch, images.expand(2, *images.shape), labels)
    torch.testing.assert_close(bound, expected, rtol=1e-4, atol=1e-4)
    theta = by_batch.theta.clone().requires_grad_()
    bound = margin_bounds(by_batch.with_theta(theta), images, labels, 0.01, method)
    (gradient,) = torch.autograd.grad(bound.sum(), theta)
    assert gradient.isfinite().all() and (bound >= expected - 1e-5).all()


@BOTH
def test_the_last_layer_is_merged_with_the_difference(method):
    population = Population.of([build("small-lenet5")])
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    bound = margin_bounds(population, images, labels, 0.05, method)
    lower, upper = logit_bounds(population, images, 0.05, method)
    apart = upper - lower.gather(-1, labels.expand(1, 4)[..., None])
    assert (bound <= apart + 1e-5).all() and bound.mean() < 0.8 * apart.mean()


def test_crown_is_tighter():
    population = Population.of([build("small-lenet5"), build("small-lenet5")])
    images, labels = torch.rand(4, 1, 28, 28), torch.arange(4)
    ibp, crown = (margin_bounds(population, images, labels, 0.02, m) for m in METHODS)
    others = F.one_hot(labels, 10).expand_as(ibp) == 0
    assert (crown < ibp)[others].float().mean() > 0.9 and crown.mean() < 0.8 * ibp.mean()


UNBOUNDED = {"swish": "SiLU", "gelu": "GELU", "kwta-0.2": "KWTA", "kaf": "KAF", "kaf-elu": "KAF"}


@pytest.mark.parametrize("activation", UNBOUNDED)
def test_what_cannot_be_bounded_is_told_by_name_and_layer(activation):
    population = Population.of([build("small-lenet5", activation)])
    images, labels = torch.rand(2, 1, 28, 28), torch.tensor([0, 1])
    with pytest.raises(TargetError) as caught:
        margin_bounds(population, images, labels, 0.1)
    assert str(caught.value) == f"cannot bound {UNBOUNDED[activation]} in layer features.2"


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.Softmax(1), "Softmax in layer layers.0"),
        (nn.GroupNorm(1, 4), "GroupNorm in layer layers.0"),
        (nn.MultiheadAttention(4, 1), "MultiheadAttention in layer layers.0"),
        (Calls(lambda self, x: x * x), "mul in layer layers.0"),
        (Calls(lambda self, x: 1 / x), "truediv in layer layers.0"),
        (Calls(lambda self, x: F.dropout(x, 0.5)), "dropout in layer layers.0"),
        (Calls(lambda self, x: torch.add(x, x, alpha=-1)), "add in layer layers.0"),
        (Calls(lambda self, x: F.elu(x, -1.0)), "elu in layer layers.0"),
        (Calls(lambda self, x: x.reshape(-1, 2)), "reshape in layer layers.0"),
        (Calls(lambda self, x: x.chunk(2)[0]), "chunk in layer layers.0"),
    ],
)
def test_refused_layers(layer, name):
    def forward(self, images):
        values = images.flatten(1)
        several = isinstance(self.layers[0], nn.MultiheadAttention)
        values = self.layers[0](*[values] * (3 if several else 1))
        return self.layers[1](values[0] if several else values)

    population = Population.of([Calls(forward, layer, nn.Linear(4, 3)).eval()])
    with pytest.raises(TargetError, match=f"^cannot bound {name}$"):
        margin_bounds(population, torch.rand(2, 1, 2, 2), torch.tensor([0, 1]), 0.1)


def test_unknown_method():
    population = Population.of([build("mlp")])
    with pytest.raises(TargetError, match="unknown method 'lp' of bounds; known: ibp, crown-ibp"):
        logit_bounds(population, torch.rand(2, 1, 28, 28), 0.1, "lp")


@pytest.mark.parametrize(
    "forward",
    [
        lambda self, x: self.layers[0](x),
        lambda self, x: (self.layers[0](x).flatten(1), x),
        lambda self, x: self.layers[0].weight,
    ],
)
def test_what_is_no_logits_is_refused(forward):
    population = Population.of([Calls(forward, nn.Linear(2, 2))])
    with pytest.raises(TargetError, match="cannot bound what is not one tensor of logits"):
        logit_bounds(population, torch.rand(2, 1, 2, 2), 0.1)


@BOTH
def test_nothing_is_certified_where_numbers_overflow(method):
    population = Population.of([build("small-lenet5")])
    population = population.with_theta(population.theta * 1e15)
    images, labels = torch.rand(10, 1, 28, 28), torch.arange(10)
    bound = margin_bounds(population, images, labels, 0.1, method)
    assert not bound.isnan().any() and (bound[0].argmax(-1) != labels).all()
    assert (bound[0, labels, labels] == 0).all()
