"""Where in an image its probability comes from: occlusion sensitivity (Zeiler and Fergus, ECCV 2014).

Places are blurred one by one until no nucleus is left in them, and the network judges each of these images: what the
probability falls by, the tissue of that place spoke for malignant. This asks the engine that serves, as it is, and
needs nothing of a bundle but its graph; maps made from gradients would need a second, differentiable one, and the last
stage of a ResNet has 3 x 5 places at this size.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from core.imaging import HEIGHT, WIDTH

# A place, and how far the next one is, in pixels of the network's input: each pixel lies in four places.
PLACE_PX = 24
STEP_PX = 12
ROWS = HEIGHT // STEP_PX + 1
COLUMNS = WIDTH // STEP_PX + 1
# Half of a place: stain and background stay, structure does not.
_BLUR_PX = 12
# Effects on the probability below this are no evidence, so they are not spread over the whole range of colours.
_FAINTEST_PEAK = 0.02
_STRENGTH = 0.6
# Stained tissue is pink and violet, from which these two stand out; they are told apart by the colour-blind, too.
_MALIGNANT = np.array([255, 225, 0], np.float32)
_BENIGN = np.array([0, 200, 255], np.float32)


def occlude(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Make one image for each place, row by row, with that place blurred.

    Args:
        image: RGB uint8 (96, 144, 3).

    Returns:
        RGB uint8 (ROWS * COLUMNS, 96, 144, 3). Places are centred on a lattice whose outermost points lie on the edge.
    """
    blurred = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(_BLUR_PX)))
    images = np.repeat(image[np.newaxis], ROWS * COLUMNS, axis=0)
    half = PLACE_PX // 2
    for number, covered in enumerate(images):
        y, x = (STEP_PX * index for index in divmod(number, COLUMNS))
        place = slice(max(y - half, 0), y + half), slice(max(x - half, 0), x + half)
        covered[place] = blurred[place]
    return images


def measure_effects(probability: float, occluded: Sequence[float]) -> NDArray[np.float32]:
    """Return what each place adds to the probability of malignancy: float32 (ROWS, COLUMNS), negative for benign.

    Args:
        probability: of the image as it is.
        occluded: those of the images of occlude(), in their order.
    """
    return np.float32(probability) - np.asarray(occluded, np.float32).reshape(ROWS, COLUMNS)


def lay_over(picture: Image.Image, effects: NDArray[np.float32]) -> Image.Image:
    """Colour an RGB picture of any size: yellow where tissue speaks for malignant, blue where it speaks for benign.

    The strongest effect has the full colour, unless it is next to nothing.
    """
    lattice = Image.fromarray(effects.astype(np.float32))
    # From the centre of the first point to that of the last: they lie on the picture's edges.
    box = (0.5, 0.5, COLUMNS - 0.5, ROWS - 0.5)
    spread = np.asarray(lattice.resize(picture.size, Image.Resampling.BILINEAR, box=box))
    share = (spread / max(float(np.abs(effects).max()), _FAINTEST_PEAK) * _STRENGTH)[..., np.newaxis]
    colours = np.where(share > 0, _MALIGNANT, _BENIGN)
    share = np.abs(share)
    return Image.fromarray(np.round(np.asarray(picture) * (1 - share) + colours * share).astype(np.uint8))
