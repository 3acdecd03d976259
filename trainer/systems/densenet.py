"""DenseNet201 (Huang et al. 2017)."""

from torch import nn
from torchvision.models import densenet201

from trainer.systems.base import System, Trunk, paper_head, pooled
from trainer.systems.weights import WeightSource

_FEATURES = 1920


def build_densenet201(source: WeightSource) -> System:
    """Build DenseNet201 with the paper's head in the place of the 1000 classes."""
    return System(densenet201_trunk(source), paper_head(_FEATURES))


def densenet201_trunk(source: WeightSource) -> Trunk:
    """Return the dense blocks, globally pooled to 1920 features."""
    network = densenet201(weights=None)
    network.classifier = nn.Identity()
    pretrained = source.load_into(network, "densenet201")
    layers = network.features
    stages: dict[str, nn.Module] = {
        "stem": nn.Sequential(layers.conv0, layers.norm0, layers.relu0, layers.pool0),
        "dense1": nn.Sequential(layers.denseblock1, layers.transition1),
        "dense2": nn.Sequential(layers.denseblock2, layers.transition2),
        "dense3": nn.Sequential(layers.denseblock3, layers.transition3),
        "dense4": nn.Sequential(layers.denseblock4, layers.norm5, nn.ReLU(inplace=True), pooled()),
    }
    return Trunk(stages, _FEATURES, pretrained)
