"""A small inception network, for the table's CSDCNN (Han et al. 2017)."""

import torch
from torch import Tensor, nn

from trainer.systems.base import System, Trunk, conv_bn_relu, pooled


class Inception(nn.Module):
    """Convolutions of 1x1, 3x3 and 5x5 and a pooled path side by side (Szegedy et al. 2015)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            [
                conv_bn_relu(inputs, width, kernel=1),
                nn.Sequential(conv_bn_relu(inputs, width, kernel=1), conv_bn_relu(width, 2 * width)),
                nn.Sequential(conv_bn_relu(inputs, width // 4, kernel=1), conv_bn_relu(width // 4, width // 2, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, padding=1), conv_bn_relu(inputs, width // 2, kernel=1)),
            ]
        )
        self.outputs = 4 * width

    def forward(self, maps_nchw: Tensor) -> Tensor:
        """Return the joined maps (N, 4 * width, H, W)."""
        return torch.cat([path(maps_nchw) for path in self.paths], dim=1)


def build_csdcnn() -> System:
    """Build a small network after the class structure-based deep CNN.

    The publication (Scientific Reports 7, 4172) gives, as far as this project knows: a deep network of the GoogLeNet
    kind that starts from ImageNet, maximum pooling between and average pooling at the end, trained on eight types of
    tumour with a loss that also keeps the features of different classes apart by a margin. Open here: its exact
    layers and margins. Chosen: six inception modules on a stem, 0.9 million parameters, random start. The class
    structure is left out: one protocol has one loss and two classes. So the row judges the kind of network, not the
    published method.
    """
    stem = nn.Sequential(conv_bn_relu(3, 32, 7, stride=2), nn.MaxPool2d(2), conv_bn_relu(32, 64))
    first, second = Inception(64, 32), Inception(128, 32)
    third, fourth = Inception(128, 64), Inception(256, 64)
    fifth, sixth = Inception(256, 96), Inception(384, 96)
    stages = {
        "stem": stem,
        "inception1": nn.Sequential(first, second, nn.MaxPool2d(2)),
        "inception2": nn.Sequential(third, fourth, nn.MaxPool2d(2)),
        "inception3": nn.Sequential(fifth, sixth, pooled()),
    }
    return System(Trunk(stages, sixth.outputs), nn.Sequential(nn.Dropout(0.4), nn.Linear(sixth.outputs, 1)))
