"""Batches of augmented images, drawn and changed on the device that trains."""

import numpy as np
import torch
from torch import Tensor

from trainer.augment import augment
from trainer.dataset.images import TrainingImages
from trainer.parallel import Ranks
from trainer.recipe import Recipe
from trainer.sampling import sampling_weights


class Batches:
    """Draws the batch of any step.

    All chance of a step comes from (seed, member of the soup, step, process) alone, so there is no state of
    generators to keep: a resumed fit draws what an uninterrupted one draws.

    The images lie on the device as uint8, all of them: the full set takes 1.3 GB.
    """

    def __init__(self, images: TrainingImages, recipe: Recipe, seed: int, device: torch.device, ranks: Ranks) -> None:
        self._fields_NCHW = torch.from_numpy(images.fields).to(device).permute(0, 3, 1, 2)
        self._targets_N = torch.from_numpy(images.labels).to(device).float()
        self._weights_N = torch.from_numpy(
            sampling_weights(images.labels, images.patients, recipe.patient_power, recipe.balance_classes)
        )
        self._recipe = recipe
        self._seed = seed
        self._device = device
        self._ranks = ranks

    def draw(self, member: int, step: int) -> tuple[Tensor, Tensor]:
        """Return this process' part of a batch: float (N, 3, 96, 144) of 0..255 and targets float (N,).

        It also seeds torch, for the dropout of the step.
        """
        draw_seed, *_ = _seeds(self._seed, member, step)
        change_seed, dropout_seed = _seeds(self._seed, member, step, self._ranks.rank + 1)
        rows = torch.multinomial(
            self._weights_N, self._recipe.batch, replacement=True, generator=torch.Generator().manual_seed(draw_seed)
        )
        rows = rows[self._ranks.rank :: self._ranks.count].to(self._device)
        torch.manual_seed(dropout_seed)
        change = torch.Generator(self._device).manual_seed(change_seed)
        views_NCHW = augment(self._fields_NCHW[rows].float(), self._recipe.augmentation, change)
        targets_N = self._targets_N[rows]
        if self._recipe.mixup:
            views_NCHW, targets_N = _mix(views_NCHW, targets_N, self._recipe.mixup, change_seed)
        return views_NCHW.contiguous(memory_format=torch.channels_last), targets_N


def _mix(views_nchw: Tensor, targets_n: Tensor, concentration: float, seed: int) -> tuple[Tensor, Tensor]:
    """Blend each image and its target with another of the batch (Zhang et al. 2018, mixup), all by one share."""
    rng = np.random.default_rng(seed)
    share = float(rng.beta(concentration, concentration))
    others = torch.from_numpy(rng.permutation(len(targets_n))).to(targets_n.device)
    return share * views_nchw + (1 - share) * views_nchw[others], share * targets_n + (1 - share) * targets_n[others]


def _seeds(*words: int) -> tuple[int, int]:
    first, second = np.random.SeedSequence(words).generate_state(2)
    return int(first), int(second)
