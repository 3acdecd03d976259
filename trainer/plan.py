"""What is to be trained, and from which weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from core.bundle import file_sha256
from trainer.network import Classifier, Stride, build_network, describe_weights, usual_stride
from trainer.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What to train.

    Attributes:
        weights: safetensors file of ImageNet weights; None takes torchvision's.
        from_scratch: begin with random weights instead and train every stage, for the comparison with no transfer.
        stride: of the weights; None takes the usual one, see build_network.
        folds: number of patient-disjoint folds; None takes what is usual for the recipe and the images.
        seed: of the folds, the heads, the batches and the augmentation.
        device: "cpu", "cuda" or "cuda:N"; None takes a GPU where there is one.
        save_steps: steps between saves of the state; None saves every two minutes.
    """

    recipe: Recipe
    weights: Path | None = None
    from_scratch: bool = False
    stride: Stride | None = None
    folds: int | None = None
    seed: int = 0
    device: str | None = None
    save_steps: int | None = None

    def settled(self) -> Self:
        """Return the plan with what follows from it: random weights leave no stage to freeze."""
        return replace(self, recipe=self.recipe.training_all_stages()) if self.from_scratch else self

    def seed_of(self, fit: int) -> int:
        """Return the seed of one fit of the run."""
        return 1000 * self.seed + fit

    @property
    def network_stride(self) -> Stride:
        """The kind of ResNet that is trained; from scratch it is the paper's."""
        return self.stride or ("v1" if self.from_scratch else usual_stride(self.weights))

    def network(self, fit: int) -> Classifier:
        """Return the network that a fit starts from; the head is drawn at random.

        Raises:
            WeightsError: the ImageNet weights do not fit.
        """
        torch.manual_seed(self.seed_of(fit))
        if self.from_scratch:
            return Classifier(self.network_stride)
        return build_network(self.weights, self.network_stride)

    def describe_weights(self) -> tuple[str, str]:
        """Return the name of the weights and the sha256 of their file, "" where there is none."""
        if self.from_scratch:
            return "none: from scratch, He initialisation", ""
        return describe_weights(self.weights), "" if self.weights is None else file_sha256(self.weights)
