"""The seam between the batch pipeline and whatever runs the network."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Engine(Protocol):
    """Runs the network on one device.

    `classify` may be called from `parallel_calls` threads at once; more gain nothing.

    Attributes:
        name: kind and precision, stored with each result, such as "openvino-int8".
        max_batch: the most images that one call takes.
        best_batch: the number of images a call that uses the device best.
        parallel_calls: calls in flight that keep the device busy.
    """

    name: str
    max_batch: int
    best_batch: int
    parallel_calls: int

    def classify(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the probability of malignancy, float32 (N,), for RGB uint8 (N, 96, 144, 3).

        Raises:
            EngineError: the device failed; the images are not at fault.
        """
        ...

    def warm_up(self) -> None:
        """Run once on empty images, so that the first real batch pays for no start-up work."""
        ...

    def close(self) -> None:
        """Free the device. No call may follow."""
        ...
