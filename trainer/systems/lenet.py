"""LeNet-5 (LeCun, Bottou, Bengio, Haffner 1998)."""

from torch import nn

from trainer.systems.base import System, Trunk


def build_lenet5() -> System:
    """Build LeNet-5 for 144x96 RGB.

    The publication gives, for 32x32 grey digits: 6 maps by 5x5, subsampling, 16 maps by 5x5, subsampling, 120 maps
    by 5x5, 84 units, squashing functions. Open: any larger or coloured image. Chosen: three input channels; the 21x33
    positions after the second subsampling are averaged to the 5x5 that the third convolution covers; plain average
    pooling for the trainable subsampling, all maps connected where the publication connects some, and one linear
    unit for its radial basis outputs.
    """
    stages = {
        "c1": nn.Sequential(nn.Conv2d(3, 6, 5), nn.Tanh(), nn.AvgPool2d(2)),
        "c3": nn.Sequential(nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)),
        "c5": nn.Sequential(nn.AdaptiveAvgPool2d(5), nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()),
    }
    return System(Trunk(stages, 120), nn.Sequential(nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 1)))
