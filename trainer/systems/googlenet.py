"""GoogLeNet (Szegedy et al. 2015), in torchvision's form with BatchNorm."""

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import GoogLeNet

from trainer.systems.base import System, Trunk, paper_head, pooled
from trainer.systems.weights import WeightSource

_FEATURES = 1024


class TensorFlowScale(nn.Module):
    """Undo ImageNet's normalisation and scale to -1..1, as torchvision's weights, ported from TensorFlow, expect."""

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor((0.485, 0.456, 0.406)), torch.tensor((0.229, 0.224, 0.225))
        self.register_buffer("factor", (std / 0.5).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", ((mean - 0.5) / 0.5).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return images of -1..1."""
        return images_nchw * cast(Tensor, self.factor) + cast(Tensor, self.offset)


def build_googlenet(source: WeightSource) -> System:
    """Build GoogLeNet with the paper's head in the place of the 1000 classes.

    The publication trains with two side exits; here they are off, so that all systems have one loss. The head's
    own dropout replaces GoogLeNet's.
    """
    network = GoogLeNet(aux_logits=False, init_weights=True)
    network.fc = nn.Identity()
    pretrained = source.load_into(network, "googlenet")
    scale = TensorFlowScale() if pretrained else nn.Identity()
    stages = {
        "stem": nn.Sequential(scale, network.conv1, network.maxpool1, network.conv2, network.conv3, network.maxpool2),
        "inception3": nn.Sequential(network.inception3a, network.inception3b, network.maxpool3),
        "inception4": nn.Sequential(
            network.inception4a,
            network.inception4b,
            network.inception4c,
            network.inception4d,
            network.inception4e,
            network.maxpool4,
        ),
        "inception5": nn.Sequential(network.inception5a, network.inception5b, pooled()),
    }
    return System(Trunk(stages, _FEATURES, pretrained), paper_head(_FEATURES))
