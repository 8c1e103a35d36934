"""Moments of logits under Gaussian noise on images."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import attacks
from hypergen.analysis import NotApplicable
from hypergen.analysis.moment_propagation import propagate
from hypergen.analysis.moments import NoiseMoments, least_lead, noise_std
from hypergen.runtime.progress import SILENT
from targets import TargetError
from targets.graph import Graph
from tests.hypergen.analysis.scene import context, networks, relu_net
from tests.targets.modules import Calls


def moments(module: nn.Module, images: Tensor, std: float) -> tuple[Tensor, Tensor]:
    module = module.eval().double()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        return propagate(Graph(module), tensors, images.double(), std)


def one_hidden(pixels: int = 36, width: int = 8) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, 3))


def normed(module: nn.Module) -> nn.Module:
    """A layer of batch norm whose statistics and weights say something."""
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return module


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1, padding_mode="circular"),
        normed(nn.BatchNorm2d(4)),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        Calls(lambda self, x: x + self.conv(x).relu(), conv=nn.Conv2d(4, 4, 3, padding=1)),
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(4, 3),
    )


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def test_one_hidden_layer_is_exact():
    """Against integration over images of two pixels."""
    module = one_hidden(2, 6).double()
    images, std = torch.rand(2, 1, 1, 2).double(), 0.8
    mean, covariance = moments(module, images, std)
    steps = torch.linspace(-7, 7, 401, dtype=torch.float64)
    noise = torch.cartesian_prod(steps, steps)
    weights = torch.exp(-(noise**2).sum(1) / 2)
    weights /= weights.sum()
    for image, own_mean, own in zip(images, mean, covariance, strict=True):
        with torch.no_grad():
            logits = module(image + std * noise.view(-1, 1, 1, 2))
        expected = weights @ logits
        square = (logits - expected).T @ ((logits - expected) * weights[:, None])
        torch.testing.assert_close(own_mean, expected, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(own, square, atol=2e-4, rtol=2e-4)


def test_two_hidden_layers_are_near_to_sampling():
    module = relu_net(width=16).double()
    image, std = torch.rand(1, 1, 6, 6).double(), 0.3
    mean, covariance = moments(module, image, std)
    with torch.no_grad():
        logits = module(image + std * torch.randn(40_000, 1, 6, 6).double())
    spread = logits.std(0)
    torch.testing.assert_close(mean[0], logits.mean(0), atol=0.05 * float(spread.max()), rtol=0)
    torch.testing.assert_close(covariance[0].diagonal().sqrt(), spread, rtol=0.05, atol=0)


AFFINE = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 3)),
    "batch norm": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(36, 8), normed(nn.BatchNorm1d(8)), nn.Linear(8, 3, bias=False)
    ),
    "shifted": lambda: Calls(
        lambda self, x: self.net((1 - x.flatten(1)) / 0.5 - 0.1) + 3, net=nn.Linear(36, 3)
    ),
    "averages": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(9, 3)),
    "global average": lambda: nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4, 3)),
    "mean": lambda: Calls(lambda self, x: self.net(x.mean((2, 3))), net=nn.Linear(1, 3)),
    "rearranged": lambda: Calls(
        lambda self, x: self.net(
            nn.functional.pad(x, (1, 0, 0, 0), value=2.0)[:, :, 1:, :4]
            .permute(0, 1, 3, 2)
            .flatten(1)
        ),
        net=nn.Linear(20, 3),
    ),
}


@pytest.mark.parametrize("name", AFFINE)
def test_affine_networks_are_exact(name):
    module, images = AFFINE[name]().eval().double(), torch.rand(2, 1, 6, 6).double()
    mean, covariance = moments(module, images, 0.3)
    with torch.no_grad():
        torch.testing.assert_close(mean, module(images))
    jacobian = torch.autograd.functional.jacobian(lambda x: module(x).sum(0), images)
    rows = jacobian.transpose(0, 1).flatten(2)  # [B,K,N]
    torch.testing.assert_close(covariance, 0.3**2 * rows @ rows.mT)


def test_a_convolution_has_the_variances_of_its_jacobian():
    module = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), normed(nn.BatchNorm2d(2)), nn.Flatten())
    image = torch.rand(1, 1, 4, 4).double()
    covariance = moments(module, image, 0.3)[1][0]
    jacobian = torch.autograd.functional.jacobian(module, image)[0].flatten(1)
    torch.testing.assert_close(covariance, torch.diag(0.09 * (jacobian**2).sum(1)))


@pytest.mark.parametrize("make", [relu_net, convolutional])
def test_without_noise_the_mean_is_what_the_network_answers(make):
    module, images = make().eval().double(), torch.rand(3, 1, 6, 6).double()
    mean, covariance = moments(module, images, 1e-9)
    torch.testing.assert_close(mean, module(images).detach(), atol=1e-7, rtol=0)
    assert float(covariance.abs().max()) < 1e-15


def test_max_pooling_of_independent_pixels():
    module = nn.Sequential(nn.MaxPool2d(2), nn.Flatten())
    image = torch.rand(1, 1, 4, 4).double()
    mean, covariance = moments(module, image, 0.5)
    pooled = module(image + 0.5 * torch.randn(200_000, 1, 4, 4).double())
    torch.testing.assert_close(mean[0], pooled.mean(0), atol=0.01, rtol=0)
    torch.testing.assert_close(covariance[0].diagonal().sqrt(), pooled.std(0), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    "layer, named",
    [
        (nn.Tanh(), "Tanh in layer 1"),
        (nn.LeakyReLU(), "LeakyReLU in layer 1"),
        (nn.MaxPool2d(2, ceil_mode=True), "MaxPool2d in layer 1"),
        (nn.AvgPool2d(3, padding=1), "AvgPool2d in layer 1"),
        (Calls(lambda self, x: nn.functional.dropout(x, 0.5, training=True)), "dropout"),
        (Calls(lambda self, x: x * x), "mul"),
    ],
)
def test_what_has_no_formula_is_named(layer, named):
    module = nn.Sequential(nn.Conv2d(1, 2, 3), layer, nn.Flatten())
    with pytest.raises(TargetError, match=named):
        moments(module, torch.rand(1, 1, 6, 6), 0.1)


def test_how_far_the_class_leads():
    mean = torch.tensor([[3.0, 1.0, 2.0]]).double()
    covariance = torch.tensor([[[2.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 14.0]]]).double()
    lead = least_lead(mean, covariance, torch.tensor([0]))
    assert lead.tolist() == pytest.approx([1 / 4])  # over the last: 1 at a variance of 2 + 14
    assert least_lead(mean, covariance, torch.tensor([1])).tolist() == pytest.approx([-2 / 2**0.5])
    steady = least_lead(mean, torch.zeros(1, 3, 3).double(), torch.tensor([0]))
    assert steady.isfinite().all() and steady > 1e6


def test_noise_is_as_large_as_epsilon():
    scene = context(epsilon=0.5)
    noise = torch.randn(4000, 36).double()
    for norm, size in (("linf", None), ("l2", (noise**2).sum(1).mean().sqrt()),
                       ("l1", noise.abs().sum(1).mean())):  # fmt: skip
        std = noise_std(replace(scene, threat=attacks.Threat(norm, 0.5)))
        expected = 0.5 if size is None else 0.5 / float(size)
        assert std == pytest.approx(expected, rel=0.01)
    with pytest.raises(NotApplicable, match="no noise"):
        noise_std(replace(scene, threat=attacks.Threat("linf", 0.0)))


def test_networks_alone_and_together():
    group, scene = networks(one_hidden, 3), context(epsilon=0.3, count=4)
    before = torch.get_rng_state()
    rows = NoiseMoments().rows(group, scene, SILENT)
    assert torch.equal(torch.get_rng_state(), before)
    for number, row in enumerate(rows):
        alone = type(group)("one", group.population[number : number + 1])
        assert NoiseMoments().rows(alone, scene, SILENT) == [row]
        assert row["ratio"] == pytest.approx(1, abs=0.05)
        assert row["lead predicted"] == pytest.approx(row["lead sampled"], rel=0.1, abs=0.1)


def test_what_does_not_apply_is_left_out_and_the_picture_shows_the_rest():
    def tanh() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Tanh(), nn.Linear(4, 3))

    groups = [networks(tanh, name="smooth"), networks(convolutional, name="sample")]
    found = NoiseMoments().run(groups, context(count=2), SILENT)
    assert "Tanh in layer 2" in found.skipped["smooth"]
    assert {row["group"] for row in found.rows} == {"sample"}
    words = "".join(text.get_text() for text in found.figure.findobj() if hasattr(text, "get_text"))
    assert "sample" in words and "smooth" not in words
