"""Real images for the GPU, many from few: the samples, turned and mirrored."""

import numpy as np
from numpy.typing import NDArray

from core.imaging import ImageLimits, decode_rgb
from core.settings import PROJECT, Settings


def pictures(number: int) -> NDArray[np.uint8]:
    """RGB uint8 (N, 96, 144, 3), no two alike up to a few hundred."""
    limits: ImageLimits = Settings().image_limits
    decoded = [decode_rgb(path.read_bytes(), limits) for path in sorted((PROJECT / "samples").glob("*.jpg"))]
    made = []
    for place in range(number):
        image, change = decoded[place % len(decoded)], place // len(decoded)
        image = image[:, ::-1] if change % 2 else image
        image = image[::-1] if change // 2 % 2 else image
        made.append(np.roll(image, change // 4 * 7, axis=1))
    return np.ascontiguousarray(np.stack(made))
