"""AlexNet (Krizhevsky, Sutskever, Hinton 2012), in torchvision's one-column form (Krizhevsky 2014)."""

from torch import nn
from torchvision.models import alexnet

from trainer.systems.base import System, Trunk, paper_head
from trainer.systems.weights import WeightSource


def build_alexnet(source: WeightSource) -> System:
    """Build AlexNet with the paper's head in the place of the 1000 classes.

    Both hidden layers of 4096 units stay. Their input of 6x6 positions is pooled adaptively from the 2x3 that
    144x96 pixels leave, so most of the 57 million parameters see repeated positions.
    """
    network = alexnet(weights=None)
    network.classifier[6] = nn.Identity()
    pretrained = source.load_into(network, "alexnet")
    layers = network.features
    stages = {
        "conv1": layers[:3],
        "conv2": layers[3:6],
        "conv3": layers[6:],
        "fc": nn.Sequential(network.avgpool, nn.Flatten(), network.classifier),
    }
    return System(Trunk(stages, 4096, pretrained), paper_head(4096))
