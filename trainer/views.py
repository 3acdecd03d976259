"""Test-time augmentation: one field seen in four ways, because a biopsy has no up and no left."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trainer.calibrate import to_logits, to_probabilities

Classify = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# Quarter turns would need another shape than the network's 96 x 144.
VIEWS = "as it is, mirrored, upside down, and turned by half"
_HEIGHT, _WIDTH = 1, 2
_FLIPS: tuple[tuple[int, ...], ...] = ((), (_WIDTH,), (_HEIGHT,), (_HEIGHT, _WIDTH))


def classify_views(classify: Classify, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what a classifier says of the plain images, and the sigmoid of its mean logit over VIEWS.

    Args:
        classify: from RGB uint8 (N, height, width, 3) to probabilities (N,).
        pixels: (N, height, width, 3).
    """
    seen = [classify(np.ascontiguousarray(np.flip(pixels, axes)) if axes else pixels) for axes in _FLIPS]
    logits_VN = np.stack([to_logits(probabilities) for probabilities in seen])
    return seen[0], to_probabilities(logits_VN.mean(axis=0))
