"""ResNet-152 (He et al. 2016), and this project's own network as a system."""

from torch import nn
from torchvision.models import resnet152

from trainer.network import Classifier, build_network
from trainer.systems.base import System, Trunk, paper_head, pooled
from trainer.systems.weights import WeightSource

_FEATURES = 2048


class RandomResNet50(Classifier):
    """trainer.network.Classifier without ImageNet weights: all of it learns."""

    def freeze_all_but(self, stages: tuple[str, ...]) -> None:
        """Let everything learn, whatever the recipe names."""
        super().freeze_all_but(tuple(name for name, _ in self.body.named_children()))


def build_resnet50(source: WeightSource) -> Classifier:
    """Build the network that histobatch ships.

    A file is taken for ResNet v1, as `histobatch train` does (the paper's weights); torchvision's weights and a
    random start have the stride of v1.5.
    """
    if not source.starts_from_imagenet("resnet50"):
        return RandomResNet50("v1.5")
    return build_network(source.files.get("resnet50"))


def build_resnet152(source: WeightSource) -> System:
    """Build ResNet-152 (torchvision's stride v1.5) with the paper's head; stages are named as a recipe names them."""
    network = resnet152(weights=None)
    network.fc = nn.Identity()
    pretrained = source.load_into(network, "resnet152")
    stages = {
        "stem": nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool),
        "layer1": network.layer1,
        "layer2": network.layer2,
        "layer3": network.layer3,
        "layer4": nn.Sequential(network.layer4, pooled()),
    }
    return System(Trunk(stages, _FEATURES, pretrained), paper_head(_FEATURES))
