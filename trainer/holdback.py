"""Patients of the training part that are held back, so that an early stop does not look at the judged fold."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from trainer.dataset.images import TrainingImages
from trainer.errors import DatasetError
from trainer.network import Network
from trainer.optimise import loss_of
from trainer.recipe import EarlyStop, Recipe


def hold_back(images: TrainingImages, rule: EarlyStop, seed: int) -> tuple[TrainingImages, TrainingImages]:
    """Divide training images by patient into those to train on and those to stop by.

    Raises:
        DatasetError: a class has one patient only.
    """
    rng = np.random.default_rng(seed)
    held: list[str] = []
    for label, name in ((0, "benign"), (1, "malignant")):
        patients = np.unique(images.patients[images.labels == label])
        if len(patients) < 2:
            raise DatasetError(f"an early stop needs two {name} patients to train on: use a recipe without one")
        held += rng.choice(patients, max(1, int(len(patients) * rule.patient_share)), replace=False).tolist()
    mask = np.isin(images.patients, held)
    return _take(images, ~mask), _take(images, mask)


def held_back_loss(network: Network, images: TrainingImages, recipe: Recipe, device: torch.device) -> torch.Tensor:
    """Return the loss on whole fields at the network's size, without augmentation."""
    targets_N = torch.from_numpy(images.labels).float()
    logits = []
    with torch.inference_mode():
        for start in range(0, len(targets_N), 64):
            fields_NHWC = torch.from_numpy(images.fields[start : start + 64]).to(device)
            logits.append(network(F.avg_pool2d(fields_NHWC.permute(0, 3, 1, 2).float(), 2)).float())
        return loss_of(torch.cat(logits), targets_N.to(device), recipe)


def _take(images: TrainingImages, mask: NDArray[np.bool_]) -> TrainingImages:
    return TrainingImages(fields=images.fields[mask], labels=images.labels[mask], patients=images.patients[mask])
