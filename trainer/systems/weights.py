"""Where a system's ImageNet weights come from: named files, torchvision's hub, or nowhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn
from torchvision.models import WeightsEnum, get_model_weights

from core.bundle import file_sha256
from trainer.errors import WeightsError
from trainer.network import describe_weights, read_tensors

State = dict[str, Tensor]

RANDOM = "random start"
# Ours to torchvision's name.
IMAGENET = {
    "alexnet": "alexnet",
    "googlenet": "googlenet",
    "vgg19": "vgg19",
    "densenet201": "densenet201",
    "mobilenetv2": "mobilenet_v2",
    "resnet152": "resnet152",
    "resnet50": "resnet50",
}
# The classifier of ImageNet's 1000 classes, and GoogLeNet's side exits: nothing here uses them.
_UNUSED = {
    "alexnet": ("classifier.6.",),
    "googlenet": ("fc.", "aux1.", "aux2."),
    "vgg19": ("classifier.6.",),
    "densenet201": ("classifier.",),
    "mobilenetv2": ("classifier.",),
    "resnet152": ("fc.",),
    "resnet50": ("fc.",),
}


@dataclass(frozen=True)
class WeightSource:
    """Which networks start from ImageNet.

    Attributes:
        files: safetensors files in torchvision's key names, by the network's name here.
        hub: whether networks without a file take torchvision's weights; otherwise they start at random.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    hub: bool = False

    def __post_init__(self) -> None:
        for name in self.files:
            if name not in IMAGENET:
                raise WeightsError(f"no ImageNet weights are known for {name!r}: name one of {', '.join(IMAGENET)}")

    def starts_from_imagenet(self, name: str) -> bool:
        """Tell whether a network has weights to start from."""
        return self.hub or name in self.files

    def load_into(self, module: nn.Module, name: str) -> bool:
        """Load a network's weights, where there are any; tell whether there were.

        Args:
            module: torchvision's network, without its classifier of 1000 classes.
            name: of the network, one of IMAGENET.

        Raises:
            WeightsError: the file is unreadable or of another architecture, or the hub cannot be reached.
        """
        if not self.starts_from_imagenet(name):
            return False
        path = self.files.get(name)
        state = _hub_state(name) if path is None else read_tensors(path)
        _load(module, {key: value for key, value in state.items() if not key.startswith(_UNUSED[name])}, name, path)
        return True

    def describe(self, name: str) -> str:
        """Name the weights that a network starts from."""
        if name in self.files:
            return f"ImageNet, {describe_weights(self.files[name])}"
        return f"ImageNet, torchvision {_hub_enum(name)}" if self.hub else RANDOM

    def digest(self, name: str) -> str:
        """Identify the weights: a file's sha256, or the name of torchvision's."""
        return file_sha256(self.files[name]) if name in self.files else self.describe(name)


def _hub_enum(name: str) -> WeightsEnum:
    return get_model_weights(IMAGENET[name])["DEFAULT"]


def _hub_state(name: str) -> State:
    try:
        return dict(_hub_enum(name).get_state_dict(progress=False, check_hash=True))
    except OSError as error:
        raise WeightsError(
            f"torchvision's weights of {name} cannot be fetched ({error}): "
            f"name a file with --weights {name}=FILE, or leave --hub out for a random start"
        ) from error


def _load(module: nn.Module, state: State, name: str, path: Path | None) -> None:
    expected = {key: value for key, value in module.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    odd = [
        key
        for key in expected.keys() | given.keys()
        if key not in expected or key not in given or expected[key].shape != given[key].shape
    ]
    if odd:
        raise WeightsError(
            f"{path or 'torchvision'}: not the weights of {name} in torchvision's key names, {len(odd)} tensors "
            f"differ, e.g. {min(odd)}"
        )
    floats = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    module.load_state_dict(floats, strict=False)
