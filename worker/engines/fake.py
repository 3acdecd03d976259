"""An engine without a network, for tests of everything around it. Never chosen by "auto"."""

import numpy as np
from numpy.typing import NDArray


class FakeEngine:
    """Says that an image is as malignant as it is red: the mean of its red channel over 255."""

    name = "fake"
    max_batch = 64
    best_batch = 16
    parallel_calls = 2

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return float32 (N,) for RGB uint8 (N, 96, 144, 3); see Engine."""
        redness: NDArray[np.float32] = images[..., 0].mean(axis=(1, 2), dtype=np.float32) / np.float32(255)
        return redness

    def warm_up(self) -> None:
        """Nothing to warm."""

    def close(self) -> None:
        """Nothing to free."""
