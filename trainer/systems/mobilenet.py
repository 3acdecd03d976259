"""MobileNetV2 (Sandler et al. 2018)."""

from itertools import pairwise

from torch import nn
from torchvision.models import mobilenet_v2

from trainer.systems.base import System, Trunk, paper_head, pooled
from trainer.systems.weights import WeightSource

_FEATURES = 1280
# Ends of the stages among the 19 layers: a stage begins where the resolution halves.
_STAGES = (0, 2, 4, 7, 14, 19)


def build_mobilenetv2(source: WeightSource) -> System:
    """Build MobileNetV2 (width 1) with the paper's head in the place of the 1000 classes."""
    return System(mobilenetv2_trunk(source), paper_head(_FEATURES))


def mobilenetv2_trunk(source: WeightSource) -> Trunk:
    """Return the inverted residuals, globally pooled to 1280 features."""
    network = mobilenet_v2(weights=None)
    network.classifier = nn.Identity()
    pretrained = source.load_into(network, "mobilenetv2")
    layers = network.features
    stages: dict[str, nn.Module] = {
        f"stage{number}": layers[start:end] for number, (start, end) in enumerate(pairwise(_STAGES), start=1)
    }
    stages["stage5"] = nn.Sequential(stages["stage5"], pooled())
    return Trunk(stages, _FEATURES, pretrained)
