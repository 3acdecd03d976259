"""Every system is a network that the loop can train, and as large as it says."""

import pytest
import torch
from torch import nn

from trainer.network import Network
from trainer.systems.catalogue import SYSTEMS
from trainer.systems.weights import WeightSource

pytestmark = pytest.mark.trainer

# Parameters with the classifier of ImageNet's 1000 classes, as torchvision's documentation lists them.
PUBLISHED = {
    "alexnet": (61_100_840, 4096),
    "googlenet": (6_624_904, 1024),
    "vgg19": (143_667_240, 4096),
    "densenet201": (20_013_928, 1920),
    "mobilenetv2": (3_504_872, 1280),
    "resnet152": (60_192_808, 2048),
    "resnet50": (25_557_032, 2048),
}


def _without_memory(name: str) -> Network:
    with torch.device("meta"):
        return SYSTEMS[name].build(WeightSource())


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("name", SYSTEMS)
def test_every_system_gives_one_finite_logit_an_image(name: str) -> None:
    """Fields of 144x96 and values of 0..255 go in; one image alone gets what it gets beside another."""
    torch.manual_seed(0)
    network = SYSTEMS[name].build(WeightSource()).eval()
    images = torch.rand(2, 3, 96, 144) * 255
    with torch.inference_mode():
        both, alone = network(images), network(images[:1])
    assert both.shape == (2,)
    assert alone.shape == (1,)
    assert torch.isfinite(both).all()
    assert both[0] == pytest.approx(alone[0].item(), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_from_a_random_start_everything_learns(name: str) -> None:
    """Frozen random features would be judged otherwise, whatever stages the recipe names."""
    network = _without_memory(name)
    network.freeze_all_but(("layer4",))
    assert all(parameter.requires_grad for parameter in network.parameters())
    network.train()
    assert all(module.training for module in network.body.modules())


@pytest.mark.parametrize("name", PUBLISHED)
def test_bodies_are_as_large_as_published(name: str) -> None:
    """With a classifier of 1000 classes in the place of our head, the count is the published one."""
    total, features = PUBLISHED[name]
    assert _parameters(_without_memory(name).body) + (features + 1) * 1000 == total


def test_the_combination_joins_the_features_of_its_three() -> None:
    """1920 of DenseNet201, 512 of VGG19, 1280 of MobileNetV2; VGG19 comes without its hidden layers."""
    network = _without_memory("combination")
    assert network.head[0].in_features == 1920 + 512 + 1280
    hidden_of_vgg = 512 * 7 * 7 * 4096 + 4096 + 4096 * 4096 + 4096
    members = sum(_parameters(_without_memory(name).body) for name in ("densenet201", "vgg19", "mobilenetv2"))
    assert _parameters(network.body) == members - hidden_of_vgg


def _layers_with_weights(module: nn.Module) -> int:
    """Count convolutions and fully connected layers, without those on a way around."""
    own = isinstance(module, nn.Conv2d | nn.Linear)
    return own + sum(_layers_with_weights(child) for name, child in module.named_children() if name != "around")


@pytest.mark.parametrize(("name", "layers"), [("reshist152", 152), ("dcnn14", 14)])
def test_a_name_with_a_depth_has_it(name: str, layers: int) -> None:
    """ResHist-152 has 152 layers with weights, DCNN-14 has 14."""
    assert _layers_with_weights(_without_memory(name)) == layers


def test_lenet_has_the_published_layers() -> None:
    """Parameters of C1 (with three colours), C3 (all maps connected), C5, F6 and one output, by hand."""
    c1, c3, c5, f6 = 6 * (3 * 25 + 1), 16 * (6 * 25 + 1), 120 * (16 * 25 + 1), 84 * 121
    assert _parameters(_without_memory("lenet5")) == c1 + c3 + c5 + f6 + 85


def test_the_hybrid_sees_the_order_of_its_patches_only_globally() -> None:
    """The local branch averages its patches: moved patches leave its half of the features as they were."""
    torch.manual_seed(0)
    body = SYSTEMS["hybrid"].build(WeightSource()).eval().body
    images = torch.rand(1, 3, 96, 144)
    moved = torch.cat([images[..., 48:], images[..., :48]], dim=3)
    with torch.inference_mode():
        first, second = body(images)[0], body(moved)[0]
    assert torch.allclose(first[128:], second[128:], atol=1e-5)
    assert not torch.allclose(first[:128], second[:128], atol=1e-5)
