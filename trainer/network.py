"""The network: ResNet-50, global pooling, FC 1024, ReLU, dropout 0.4, one unit whose sigmoid is P(malignant)."""

from pathlib import Path
from typing import Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet50_Weights, resnet50

from trainer.errors import WeightsError

# Which convolution of the first block of layers 2 to 4 halves the resolution: the first (the original ResNet,
# "v1", the weights that the paper used) or the second (torchvision, "v1.5"). The weights fit both by shape, so
# nothing but this word tells them apart, and the wrong choice only costs accuracy, silently.
Stride = Literal["v1", "v1.5"]

HUB_WEIGHTS = "torchvision ResNet50 IMAGENET1K_V2"
FEATURES = 2048
HIDDEN = 1024
DROPOUT = 0.4
# Of ImageNet, on the 0..255 scale of the pixels.
MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)


class Normalise(nn.Module):
    """Scale RGB channels from 0..255 to what ImageNet weights expect."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return (images - mean) / std."""
        return (images_nchw - cast(Tensor, self.mean)) / cast(Tensor, self.std)


class Network(nn.Module):
    """What the loop can train: RGB images float (N, 3, 96, 144) of 0..255 to logits of malignancy (N,).

    Attributes:
        body: what starts from ImageNet weights; its direct children are the stages that a recipe names.
        head: what starts at random.
    """

    body: nn.Module
    head: nn.Module

    def freeze_all_but(self, stages: tuple[str, ...]) -> None:
        """Let only these stages of the body and the head learn."""
        raise NotImplementedError


class Classifier(Network):
    """ResNet-50 with the paper's head.

    Attributes:
        stride: the kind of ResNet that the body is.
    """

    def __init__(self, stride: Stride) -> None:
        super().__init__()
        self.stride: Stride = stride
        self._learning: tuple[str, ...] = ()
        self.normalise = Normalise()
        self.body: ResNet = _bare_resnet(stride)
        self.head: nn.Sequential = nn.Sequential(
            nn.Linear(FEATURES, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1)
        )

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return logits float (N,)."""
        return cast(Tensor, self.head(self.body(self.normalise(images_nchw)))).squeeze(1)

    def freeze_all_but(self, stages: tuple[str, ...]) -> None:
        """Let only these stages of the body and the head learn."""
        self._learning = stages
        for name, parameter in self.body.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in stages)

    def train(self, mode: bool = True) -> "Classifier":
        """Switch dropout, and the BatchNorm of the learning stages; frozen stages keep ImageNet's statistics."""
        super().train(mode)
        for name, stage in self.body.named_children():
            stage.train(mode and name in self._learning)
        return self


def build_network(weights: Path | None, stride: Stride | None = None) -> Classifier:
    """Build the network with an ImageNet body and a fresh head.

    Args:
        weights: safetensors file in torchvision's key names; None fetches torchvision's own weights.
        stride: the kind of ResNet that the weights belong to; None takes usual_stride.

    Raises:
        WeightsError: the file is unreadable or of another architecture, or torchvision's cannot be fetched.
    """
    network = Classifier(stride or usual_stride(weights))
    state = _hub_weights() if weights is None else read_tensors(weights)
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    load_state(network.body, state, weights)
    return network


def usual_stride(weights: Path | None) -> Stride:
    """Return "v1" for a file, as keras-applications and the paper have it, "v1.5" for torchvision's weights."""
    return "v1.5" if weights is None else "v1"


def load_state(module: nn.Module, state: dict[str, Tensor], source: Path | None) -> None:
    """Load tensors into a module as float32, all of them and no others.

    Raises:
        WeightsError: naming a key that is missing, superfluous or of another shape.
    """
    expected = module.state_dict()
    odd = [key for key in expected.keys() | state.keys() if _shape(expected, key) != _shape(state, key)]
    odd = [key for key in odd if not key.endswith("num_batches_tracked")]  # absent in older files, and unused
    if odd:
        raise WeightsError(f"{source}: not a ResNet-50 as expected here, {len(odd)} tensors differ, e.g. {min(odd)}")
    floats = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    module.load_state_dict(floats, strict=False)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        WeightsError: missing or no safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors: {error}") from error


def describe_weights(weights: Path | None) -> str:
    """Name the ImageNet weights with the source that the file states, for config.json and the attribution."""
    if weights is None:
        return HUB_WEIGHTS
    with safe_open(weights, framework="pt") as file:
        source = (file.metadata() or {}).get("source")
    return f"{weights.name} ({source})" if source else weights.name


def _bare_resnet(stride: Stride) -> ResNet:
    """Build a ResNet-50 that ends with the pooled features."""
    body = resnet50(weights=None)
    body.fc = nn.Identity()
    if stride == "v1":
        for stage in (body.layer2, body.layer3, body.layer4):
            block = cast(nn.Module, stage[0])
            cast(nn.Conv2d, block.conv1).stride = (2, 2)
            cast(nn.Conv2d, block.conv2).stride = (1, 1)
    return body


def _hub_weights() -> dict[str, Tensor]:
    try:
        return dict(ResNet50_Weights.IMAGENET1K_V2.get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise WeightsError(f"torchvision's weights cannot be fetched ({error}): name a file with --weights") from error


def _shape(state: dict[str, Tensor], key: str) -> torch.Size | None:
    return state[key].shape if key in state else None
