"""AlexNet and ResNet-18 as torchvision builds them, on images of any size.

Sources: Krizhevsky 2014 ("One weird trick"), He et al. 2016. As in the study of k-WTA (Costa and
Antonini 2020) images are scaled to 224x224, and every ReLU, those after residual sums too, is
replaced.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from targets.activations import make_activation
from targets.errors import TargetError
from targets.normalization import Normalize

SIDE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageNetTarget(nn.Module):
    """A model of torchvision, `net`, behind what it expects of images: [B,C,H,W] -> logits [B,K].

    Images in [0,1], colour or grey, are scaled (bilinear) to 224x224, grey ones repeated in three
    channels, and normalised by ImageNet's mean and standard deviation. For 10 classes: alexnet
    57,044,810 weights, resnet18 11,181,642.

    Args:
        name: `alexnet` or `resnet18`.

    Raises:
        TargetError: images of other than 1 or 3 channels.
    """

    def __init__(
        self, activation: str, num_classes: int, input_shape: tuple[int, int, int], *, name: str
    ):
        from torchvision import models  # here, for it takes seconds to load

        super().__init__()
        if input_shape[0] not in (1, 3):
            raise TargetError(f"{name} takes images of 1 or 3 channels, not {input_shape[0]}")
        self.name = name
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        if name == "resnet18":
            self.net = models.ResNet(Block, [2, 2, 2, 2], num_classes)  # pyright: ignore
        else:
            self.net = models.get_model(name, num_classes=num_classes)
        replace_activations(self.net, activation)

    def forward(self, images: Tensor) -> Tensor:
        images = F.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return self.net(self.normalize(images.expand(-1, 3, -1, -1)))

    def load_pretrained(self) -> None:
        """Takes torchvision's weights for ImageNet, all but the last layer's.

        They are downloaded, once, to PyTorch's cache. `TargetError` when they cannot be.
        """
        from torchvision import models

        try:
            state = dict(models.get_model_weights(self.name)["DEFAULT"].get_state_dict())
        except (OSError, RuntimeError) as error:
            raise TargetError(f"cannot download the weights of {self.name}: {error}") from error
        for head in list(state)[-2:]:  # weight and bias
            del state[head]
        self.net.load_state_dict(state, strict=False)  # lacks the head and the activations' weights


class Block(nn.Module):
    """torchvision's BasicBlock, names included, but with an activation of its own after the sum."""

    expansion = 1

    def __init__(
        self,
        inplanes: int,
        planes: int,
        stride: int = 1,
        downsample: nn.Module | None = None,
        *_: object,
        **__: object,  # what only other ResNets vary
    ):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(planes), nn.ReLU()
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2, self.relu2 = nn.BatchNorm2d(planes), nn.ReLU()
        self.downsample = downsample

    def forward(self, values: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(values)))
        out = self.bn2(self.conv2(out))
        shortcut = values if self.downsample is None else self.downsample(values)
        return self.relu2(out + shortcut)


def replace_activations(net: nn.Module, activation: str) -> None:
    """Puts the named activation, for the channels of the layer before it, wherever a ReLU is."""
    channels = 0
    for name, layer in list(net.named_modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            channels = layer.weight.shape[0]
        elif isinstance(layer, nn.ReLU):
            net.set_submodule(name, make_activation(activation, channels))
