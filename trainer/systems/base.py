"""What all systems share: normalisation, named stages that a recipe freezes or trains, and a head."""

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from trainer.network import DROPOUT, HIDDEN, Network, Normalise

_WHOLE = "conv1"  # a recipe that names a ResNet's first convolution trains the whole body


class Trunk(nn.Sequential):
    """Stages in the order in which images pass them.

    A recipe names the stages of a ResNet. Other networks have none of these names, so the rule is: a trunk that
    starts at random learns whole, for frozen random features would be judged otherwise; a trunk with ImageNet
    weights that knows the recipe's names learns these stages; any other learns as many of its last stages as the
    recipe names (two with `patient`: layer3 and layer4), or all, where the recipe names conv1.

    Attributes:
        features: length of what comes out for one image.
        pretrained: whether it starts from ImageNet weights.
    """

    def __init__(self, stages: Mapping[str, nn.Module], features: int, pretrained: bool = False) -> None:
        super().__init__()
        for name, stage in stages.items():
            self.add_module(name, stage)
        self.features = features
        self.pretrained = pretrained
        self._frozen: frozenset[str] = frozenset()

    def learning_stages(self, named: tuple[str, ...]) -> tuple[str, ...]:
        """Return the stages that learn where a recipe names these."""
        own = tuple(name for name, _ in self.named_children())
        if not self.pretrained or _WHOLE in named:
            return own
        known = tuple(name for name in own if name in named)
        return known or own[max(0, len(own) - len(named)) :]

    def freeze_all_but(self, named: tuple[str, ...]) -> None:
        """Let only learning_stages(named) learn."""
        learning = self.learning_stages(named)
        self._frozen = frozenset(name for name, _ in self.named_children() if name not in learning)
        for name, stage in self.named_children():
            stage.requires_grad_(name in learning)

    def train(self, mode: bool = True) -> "Trunk":
        """Switch dropout and BatchNorm; frozen stages keep the statistics that they came with."""
        super().train(mode)
        for name, stage in self.named_children():
            stage.train(mode and name not in self._frozen)
        return self


class System(Network):
    """A network to compare: a trunk, or several side by side, and a head."""

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.normalise = Normalise()
        self.body = body
        self.head = head

    def forward(self, images_nchw: Tensor) -> Tensor:
        """Return logits float (N,)."""
        return cast(Tensor, self.head(self.body(self.normalise(images_nchw)))).squeeze(1)

    def freeze_all_but(self, stages: tuple[str, ...]) -> None:
        """Let only these stages of each trunk and the head learn, by the rule that Trunk states."""
        for module in self.body.modules():
            if isinstance(module, Trunk):
                module.freeze_all_but(stages)


def paper_head(features: int) -> nn.Sequential:
    """Return the head of trainer.network, so that transferred bodies differ in nothing but the body."""
    return nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 1))


def pooled() -> nn.Sequential:
    """Return global average pooling to (N, channels)."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def conv_bn_relu(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Return a convolution that keeps the size (at stride 1), BatchNorm and ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
