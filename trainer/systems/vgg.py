"""VGG19 (Simonyan and Zisserman 2015), configuration E without BatchNorm."""

from collections import OrderedDict
from itertools import pairwise

from torch import nn
from torchvision.models import vgg19

from trainer.systems.base import System, Trunk, paper_head, pooled
from trainer.systems.weights import WeightSource

# Ends of the five blocks among the 37 layers: each ends with its pooling.
_BLOCKS = (0, 5, 10, 19, 28, 37)


def build_vgg19(source: WeightSource) -> System:
    """Build VGG19 with the paper's head in the place of the 1000 classes.

    Both hidden layers of 4096 units stay, 120 of the 140 million parameters. Their input of 7x7 positions is pooled
    adaptively from the 3x4 that 144x96 pixels leave.
    """
    network = vgg19(weights=None)
    network.classifier[6] = nn.Identity()
    pretrained = source.load_into(network, "vgg19")
    fully = nn.Sequential(network.avgpool, nn.Flatten(), network.classifier)
    return System(Trunk(_blocks(network.features) | {"fc": fully}, 4096, pretrained), paper_head(4096))


def vgg19_trunk(source: WeightSource) -> Trunk:
    """Return the convolutions alone, globally pooled to 512 features."""
    network = vgg19(weights=None)
    network.classifier[6] = nn.Identity()
    pretrained = source.load_into(network, "vgg19")
    blocks = _blocks(network.features)
    blocks["block5"] = nn.Sequential(OrderedDict(layers=blocks["block5"], pool=pooled()))
    return Trunk(blocks, 512, pretrained)


def _blocks(layers: nn.Sequential) -> dict[str, nn.Module]:
    return {f"block{number}": layers[start:end] for number, (start, end) in enumerate(pairwise(_BLOCKS), start=1)}
