"""A narrow residual network of 152 layers, for the table's ResHist-152 (Gour et al. 2020)."""

from torch import Tensor, nn

from trainer.systems.base import System, Trunk, conv_bn_relu, pooled

# Blocks of each stage, as in ResNet-152: 1 + 3 * (3 + 8 + 36 + 3) + 1 layers with weights.
_BLOCKS = (3, 8, 36, 3)
_WIDTH = 16
_EXPANSION = 4


class Bottleneck(nn.Module):
    """Three convolutions and a way around them (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = _EXPANSION * width
        last = nn.Sequential(nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.path = nn.Sequential(conv_bn_relu(inputs, width, 1), conv_bn_relu(width, width, 3, stride), last)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.around = nn.Sequential(projection, nn.BatchNorm2d(outputs))

    def forward(self, maps_nchw: Tensor) -> Tensor:
        """Return relu(path + around)."""
        added: Tensor = self.path(maps_nchw) + self.around(maps_nchw)
        return added.relu()


def build_reshist152() -> System:
    """Build a narrow residual network of 152 layers.

    The publication (Int. J. of Imaging Systems and Technology 30, 621) gives, as far as this project knows: residual
    learning, 152 layers, trained on BreakHis alone with augmentation by affine transformations, stain normalisation
    and patches. Open here: blocks and channels. Chosen: the blocks of ResNet-152 with a quarter of its channels
    (3.7 million parameters), which sets this row apart from that of ResNet-152; random start, this protocol's
    augmentation, no patches.
    """
    stages: dict[str, nn.Module] = {"stem": nn.Sequential(conv_bn_relu(3, _WIDTH, 7, 2), nn.MaxPool2d(3, 2, 1))}
    inputs = _WIDTH
    for number, count in enumerate(_BLOCKS):
        width = _WIDTH * 2**number
        blocks: list[nn.Module] = []
        for index in range(count):
            blocks.append(Bottleneck(inputs, width, stride=2 if number > 0 and index == 0 else 1))
            inputs = _EXPANSION * width
        stages[f"layer{number + 1}"] = nn.Sequential(*blocks)
    stages["layer4"] = nn.Sequential(stages["layer4"], pooled())
    return System(Trunk(stages, inputs), nn.Linear(inputs, 1))
