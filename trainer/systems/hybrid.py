"""A network with a global and a local branch, for the table's hybrid CNN (Zhu et al. 2019)."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.systems.base import System, Trunk, conv_bn_relu, pooled

_PATCH = 48  # pixels; 144x96 holds six of them
_FEATURES = 128


class SqueezeExcite(nn.Module):
    """Weigh channels by what the whole map holds (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = channels // 8
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, maps_nchw: Tensor) -> Tensor:
        """Return the maps, each multiplied by its weight."""
        weighed: Tensor = maps_nchw * self.weigh(maps_nchw)
        return weighed


class GlobalAndLocal(nn.Module):
    """One branch sees the whole field at half size, the other patches at full size, whose features are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = _branch()
        self.patch = _branch()

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return features (N, 256), for images (N, 3, 96, 144) or any multiple of a patch."""
        count, channels = images_nchw.shape[:2]
        patches = images_nchw.unfold(2, _PATCH, _PATCH).unfold(3, _PATCH, _PATCH)
        each = patches.permute(0, 2, 3, 1, 4, 5).reshape(-1, channels, _PATCH, _PATCH)
        votes = self.patch(each).view(count, -1, _FEATURES).mean(dim=1)
        return torch.cat([self.whole(F.avg_pool2d(images_nchw, 2)), votes], dim=1)


def build_hybrid() -> System:
    """Build a small network after the hybrid CNN.

    The paper's table names no author; this project takes it for "Breast cancer histopathology image classification
    through assembling multiple compact CNNs" (BMC Medical Informatics and Decision Making 19, 198). That publication
    gives: a global and a local model branch, voting over local parts, merging of both, squeeze-excitation blocks by
    whose weights channels are pruned, several models assembled. Open here: the layers of the branches. Chosen: two
    branches of four convolutions with squeeze-excitation, six patches of 48x48 whose features are averaged, features
    joined before one linear unit; no pruning and no assembly, which are not part of one network's training.
    """
    return System(GlobalAndLocal(), nn.Sequential(nn.Dropout(0.4), nn.Linear(2 * _FEATURES, 1)))


def _branch() -> Trunk:
    widths = (3, 32, 64, 96, _FEATURES)
    stages: dict[str, nn.Module] = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        end = nn.MaxPool2d(2) if outputs != _FEATURES else pooled()
        stages[f"stage{number}"] = nn.Sequential(conv_bn_relu(inputs, outputs), SqueezeExcite(outputs), end)
    return Trunk(stages, _FEATURES)
