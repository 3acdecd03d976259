"""Batches: drawn by chance that the seed alone decides, and blended where the recipe says so."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainer.batches import Batches
from trainer.dataset.images import TrainingImages
from trainer.parallel import ALONE
from trainer.recipe import RECIPES, AugmentationRecipe, Recipe

pytestmark = pytest.mark.trainer

STILL = AugmentationRecipe(zoom=(1.0, 1.0), turn_degrees=0, shift=0, stain=0, stain_offset=0, brightness=0, contrast=0)
RECIPE = replace(RECIPES["smoke"], batch=16, augmentation=STILL)


def _batches(recipe: Recipe, seed: int = 0) -> Batches:
    """Benign images are black, malignant ones white."""
    labels = np.array([0, 1] * 4, np.int64)
    fields = np.repeat(labels.astype(np.uint8) * 255, 192 * 288 * 3).reshape(8, 192, 288, 3)
    images = TrainingImages(fields=fields, labels=labels, patients=np.array([f"p{n}" for n in range(8)]))
    return Batches(images, recipe, seed, torch.device("cpu"), ALONE)


def test_a_step_of_a_seed_draws_the_same_batch_again() -> None:
    """So a resumed fit goes on as an uninterrupted one; another step, member or seed draws another batch."""
    recipe = replace(RECIPE, mixup=0.4, augmentation=AugmentationRecipe())
    first = _batches(recipe).draw(0, 5)
    again = _batches(recipe).draw(0, 5)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    for others in (_batches(recipe).draw(0, 6), _batches(recipe).draw(1, 5), _batches(recipe, 1).draw(0, 5)):
        assert not torch.equal(first[0], others[0])


def test_without_mixup_images_keep_their_labels() -> None:
    """Black stays benign, white malignant."""
    images, targets = _batches(RECIPE).draw(0, 1)
    assert torch.allclose(images.mean(dim=(1, 2, 3)) / 255, targets, atol=0.01)
    assert set(targets.tolist()) == {0.0, 1.0}


def test_mixup_blends_targets_as_it_blends_images() -> None:
    """An image that is two thirds white is two thirds malignant; over many steps shares of all sizes occur."""
    batches = _batches(replace(RECIPE, mixup=0.4))
    seen = set()
    for step in range(20):
        images, targets = batches.draw(0, step)
        assert torch.allclose(images.mean(dim=(1, 2, 3)) / 255, targets, atol=0.01)
        seen |= {round(target, 2) for target in targets.tolist()}
    assert len([target for target in seen if 0.05 < target < 0.95]) > 5
