"""Which stages of a system learn where a recipe names those of a ResNet."""

import pytest
import torch
from torch import nn

from trainer.network import Classifier
from trainer.systems.base import System, Trunk
from trainer.systems.combination import SideBySide
from trainer.systems.resnet import RandomResNet50

pytestmark = pytest.mark.trainer


def _trunk(*names: str, pretrained: bool) -> Trunk:
    stages = {name: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)) for name in names}
    return Trunk(stages, 3, pretrained)


@pytest.mark.parametrize(
    ("named", "learning"),
    [
        (("layer3", "layer4"), ("c", "d")),
        (("layer4",), ("d",)),
        ((), ()),
        (("conv1", "bn1", "layer1", "layer2", "layer3", "layer4"), ("a", "b", "c", "d")),
        (("bn1", "layer1", "layer2", "layer3", "layer4"), ("a", "b", "c", "d")),
    ],
)
def test_other_networks_train_as_many_last_stages(named: tuple[str, ...], learning: tuple[str, ...]) -> None:
    """A network without these names takes its last ones; conv1 stands for the whole body."""
    assert _trunk("a", "b", "c", "d", pretrained=True).learning_stages(named) == learning


def test_a_resnet_trains_the_stages_that_are_named() -> None:
    """ResNet-152's stages are called as in the recipe."""
    trunk = _trunk("stem", "layer1", "layer2", "layer3", "layer4", pretrained=True)
    assert trunk.learning_stages(("layer2", "layer4")) == ("layer2", "layer4")


def test_frozen_stages_neither_learn_nor_drift() -> None:
    """Neither weights nor BatchNorm statistics of a frozen stage change by training; those of others do."""
    trunk = _trunk("a", "b", pretrained=True)
    system = System(trunk, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1)))
    system.freeze_all_but(("layer4",))
    system.train()
    before = {key: value.clone() for key, value in trunk.state_dict().items()}
    system(torch.rand(4, 3, 8, 8) * 255).sum().backward()
    changed = {key for key, value in trunk.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"b.1.running_mean", "b.1.running_var", "b.1.num_batches_tracked"}
    assert all(parameter.grad is None for parameter in trunk.a.parameters())
    assert all(parameter.grad is not None for parameter in trunk.b.parameters())


def test_each_network_of_a_combination_has_its_own_start() -> None:
    """A member with ImageNet weights trains its last stages, a member without trains all."""
    body = SideBySide({"one": _trunk("a", "b", pretrained=True), "other": _trunk("a", "b", pretrained=False)})
    System(body, nn.Linear(6, 1)).freeze_all_but(("layer4",))
    learning = {name.rsplit(".", 2)[0] for name, p in body.named_parameters() if p.requires_grad}
    assert learning == {"trunks.one.b", "trunks.other.a", "trunks.other.b"}


def test_our_own_network_learns_whole_from_a_random_start() -> None:
    """Else stages that were never trained would stay as they were drawn."""
    with torch.device("meta"):
        random, transferred = RandomResNet50("v1.5"), Classifier("v1")
    for network in (random, transferred):
        network.freeze_all_but(("layer4",))
    assert all(parameter.requires_grad for parameter in random.parameters())
    assert not all(parameter.requires_grad for parameter in transferred.parameters())
