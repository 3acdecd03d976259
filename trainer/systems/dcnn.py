"""A plain convolutional network of 14 layers, for the table's DCNN-14."""

from torch import nn

from trainer.systems.base import System, Trunk, conv_bn_relu, pooled

# Channels of the convolutions of each stage.
_STAGES = ((32, 32), (64, 64), (128, 128, 128), (192, 192, 192), (256, 256))


def build_dcnn14() -> System:
    """Build a stand-in for DCNN-14.

    The publication is not known to this project beyond what its name in the paper's table says: a deep convolutional
    network, 14 layers. Open: everything else. Chosen: layers are counted by their weights, 12 convolutions of 3x3 in
    five stages with BatchNorm, ReLU and maximum pooling, and two fully connected layers. So this row says how a
    plain network of that depth fares, not how the published one does.
    """
    stages: dict[str, nn.Module] = {}
    inputs = 3
    for number, channels in enumerate(_STAGES, start=1):
        layers: list[nn.Module] = []
        for outputs in channels:
            layers.append(conv_bn_relu(inputs, outputs))
            inputs = outputs
        layers.append(nn.MaxPool2d(2) if number < len(_STAGES) else pooled())
        stages[f"stage{number}"] = nn.Sequential(*layers)
    head = nn.Sequential(nn.Linear(inputs, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, 1))
    return System(Trunk(stages, inputs), head)
