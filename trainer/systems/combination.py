"""DenseNet201, VGG19 and MobileNetV2 side by side (Kassani et al. 2019)."""

import torch
from torch import Tensor, nn

from trainer.systems.base import System, Trunk, paper_head
from trainer.systems.densenet import densenet201_trunk
from trainer.systems.mobilenet import mobilenetv2_trunk
from trainer.systems.vgg import vgg19_trunk
from trainer.systems.weights import WeightSource

MEMBERS = ("densenet201", "vgg19", "mobilenetv2")


class SideBySide(nn.Module):
    """Trunks that see the same image; their features are joined."""

    def __init__(self, trunks: dict[str, Trunk]) -> None:
        super().__init__()
        self.trunks = nn.ModuleDict(trunks)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return features (N, sum of the trunks' features)."""
        return torch.cat([trunk(images_nchw) for trunk in self.trunks.values()], dim=1)


def build_combination(source: WeightSource) -> System:
    """Build the three networks with one head on their joined features.

    The publication (CASCON 2019, arXiv 1909.11870) gives: VGG19, MobileNetV2 and DenseNet201 from ImageNet extract
    features, which a multi-layer perceptron classifies. Open, as far as this project knows: size of the perceptron,
    how each map is pooled, which layers are trained. Chosen: global average pooling, 1920 + 512 + 1280 features, the
    paper's head; VGG19 gives its convolutions without the two layers of 4096. Each member starts from its own
    ImageNet file, where one is named, and trains the stages that it would train alone.
    """
    trunks = {
        "densenet201": densenet201_trunk(source),
        "vgg19": vgg19_trunk(source),
        "mobilenetv2": mobilenetv2_trunk(source),
    }
    return System(SideBySide(trunks), paper_head(sum(trunk.features for trunk in trunks.values())))
