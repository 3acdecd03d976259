"""The seven steps of the paper's preparation, by its names and in its order.

Training runs through the same parts: `load_dataset` mounts, resizes and encodes, `trainer.batches` reshapes, shuffles
and generates. `histobatch dataset` and the benchmark call the steps one by one.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.batches import Batches
from trainer.dataset import pictures
from trainer.dataset.images import DataSet, TrainingImages, load_mounted
from trainer.dataset.origins import Origin, mount
from trainer.dataset.pool import Listener, ignore
from trainer.parallel import Ranks
from trainer.recipe import Recipe

SAMPLES = 24
AUGMENTED = 4
VIEWS_EACH = 6


def mounting(source: Path) -> Origin:
    """Step 1: open a folder or an archive where it lies; the paper mounted a cloud drive."""
    return mount(source)


def resizing(origin: Origin, cache: Path | None, listener: Listener = ignore) -> DataSet:
    """Step 2: decode every image to 144x96, as serving does, and to twice that to crop from."""
    return load_mounted(origin, cache, listener)


def reshaping(images_NHWC: NDArray[np.uint8], device: torch.device) -> Tensor:
    """Step 3: put images on the device as uint8 (N, 3, height, width), their bytes in the order that they have.

    This order, channels last, is what convolutions are fastest with.
    """
    return torch.from_numpy(images_NHWC).to(device).permute(0, 3, 1, 2)


def encoding(data: DataSet, device: torch.device) -> Tensor:
    """Step 4: return the targets float (N,), benign 0, malignant 1, as the file names tell."""
    return torch.from_numpy(data.labels).to(device).float()


def shuffling(count: int, seed: int) -> NDArray[np.int64]:
    """Step 5: return the rows 0..count-1 in an order that the seed alone decides."""
    return np.random.default_rng(seed).permutation(count)


def visualisation(data: DataSet, recipe: Recipe, folder: Path, seed: int) -> tuple[Path, ...]:
    """Step 6: draw normalised samples, the counts of classes and magnifications, and augmented samples, as PNGs."""
    order = shuffling(len(data), seed)
    rows = pictures.even_sample(data.labels, order, SAMPLES)
    shown = [
        pictures.Augmented(original=data.pixels[row], name=data.names[row], views=_views(data, row, recipe, seed))
        for row in pictures.even_sample(data.labels, order, AUGMENTED).tolist()
    ]
    return (
        pictures.draw_samples(data.pixels[rows], [data.names[row] for row in rows], folder / "samples.png"),
        pictures.draw_counts(data.names, folder / "counts.png"),
        pictures.draw_augmented(shown, recipe.name, folder / "augmented.png"),
    )


def generation(
    images: TrainingImages, recipe: Recipe, seed: int, device: torch.device, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Step 7: yield batches as a fit draws them: images float (B, 3, 96, 144) of 0..255, and targets float (B,).

    Images lie on the device and are changed there: flips, turns, zoom, shifts, stain in HED space, light.
    """
    batches = Batches(images, recipe, seed, device, Ranks())
    for step in range(1, steps + 1):
        yield batches.draw(0, step)


def _views(data: DataSet, row: int, recipe: Recipe, seed: int) -> NDArray[np.uint8]:
    """Return augmented views of one image, uint8 (V, 96, 144, 3)."""
    alone = data.training_images(np.array([row]))
    drawn = list(generation(alone, recipe, seed + row, torch.device("cpu"), -(-VIEWS_EACH // recipe.batch)))
    views_NCHW = torch.cat([images for images, _ in drawn])[:VIEWS_EACH]
    return views_NCHW.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
