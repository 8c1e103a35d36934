"""AlexNet and ResNet-18 against torchvision's."""

from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.transforms import v2

from targets import ACTIVATIONS, Population, TargetError, build, imagenet

NAMES = ["alexnet", "resnet18"]


@pytest.fixture(autouse=True)
def _own_randomness():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", NAMES)
def test_layout_is_that_of_the_pretrained_weights(name):
    with torch.device("meta"):
        mine, theirs = build(name, num_classes=10).net, models.get_model(name)
    shapes = [{n: t.shape for n, t in net.state_dict().items()} for net in (mine, theirs)]
    head = [n for n, shape in shapes[1].items() if shape[:1] == (1000,)]
    assert list(shapes[0]) == list(shapes[1]) and list(shapes[1])[-2:] == head
    assert all(shapes[0][n] == shapes[1][n] for n in shapes[0] if n not in head)


@pytest.mark.parametrize("channels", [1, 3])
def test_pretrained_resnet18_answers_as_torchvision_does(channels, monkeypatch):
    theirs = models.resnet18()
    for layer in theirs.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
    given = {n: t for n, t in theirs.state_dict().items() if "num_batches" not in n}
    downloaded = []
    monkeypatch.setattr(
        models.ResNet18_Weights,
        "get_state_dict",
        lambda weights: downloaded.append(weights) or given,
    )
    mine = build("resnet18", input_shape=(channels, 32, 32), pretrained=True).eval()
    assert downloaded == [models.ResNet18_Weights.IMAGENET1K_V1]
    theirs.fc = mine.net.fc
    prepare = v2.Compose(
        [
            v2.Resize((224, 224), antialias=False),
            v2.Lambda(lambda images: images.expand(-1, 3, -1, -1)),
            v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    images = torch.rand(2, channels, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(mine(images), theirs.eval()(prepare(images)))


def test_alexnet_in_a_population(monkeypatch):
    monkeypatch.setattr(imagenet, "SIDE", 64)
    net = build("alexnet", "elu").eval()
    images = torch.rand(2, 1, 28, 28)
    with torch.no_grad():
        torch.testing.assert_close(Population.of([net])(images[None])[0], net(images))


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("alexnet", [64, 192, 384, 256, 256, 4096, 4096]),
        ("resnet18", [64] * 5 + [128] * 4 + [256] * 4 + [512] * 4),
    ],
)
def test_every_relu_is_replaced_by_one_of_its_own(name, channels, monkeypatch):
    monkeypatch.setitem(ACTIVATIONS, "prelu", nn.PReLU)
    with torch.device("meta"):
        layers = list(build(name, "prelu").modules())
    assert not any(isinstance(layer, nn.ReLU) for layer in layers)
    assert [x.num_parameters for x in layers if isinstance(x, nn.PReLU)] == channels


@pytest.mark.parametrize("problem", [URLError("no route to host"), RuntimeError("invalid hash")])
def test_download_that_fails(problem, monkeypatch):
    def fails(weights):
        raise problem

    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", fails)
    with pytest.raises(
        TargetError, match="cannot download the weights of resnet18: .*(route|hash)"
    ):
        build("resnet18", pretrained=True)


def test_bad_input():
    with pytest.raises(TargetError, match="vgg has no pretrained weights; alexnet and resnet18"):
        build("vgg", pretrained=True)
    with pytest.raises(TargetError, match="alexnet takes images of 1 or 3 channels, not 2"):
        build("alexnet", input_shape=(2, 28, 28))
