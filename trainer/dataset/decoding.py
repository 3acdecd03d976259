"""One image's bytes to the two arrays that training needs, from one decoding; and one task of a decoding process."""

import hashlib
from dataclasses import dataclass

import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from core.errors import ImageRejected
from core.imaging import HEIGHT, WIDTH, decode_full, scale

# Twice the network's input: crops down to half of the field keep real detail, and two by two of these pixels average
# to nearly what serving sees (Pillow's box counts border pixels whole or not at all). The full 700x460 would cost six
# times the memory for detail that the network's input cannot show.
FIELD_WIDTH, FIELD_HEIGHT = 2 * WIDTH, 2 * HEIGHT
PIXELS_SHAPE, FIELD_SHAPE = (HEIGHT, WIDTH, 3), (FIELD_HEIGHT, FIELD_WIDTH, 3)


@dataclass(frozen=True, kw_only=True)
class Views:
    """What is kept of an image.

    Attributes:
        pixels: RGB uint8 (96, 144, 3), those of core.imaging.decode_rgb.
        field: RGB uint8 (192, 288, 3).
        digest: of all decoded pixels at their full size; equal for two files that show the very same image.
    """

    pixels: NDArray[np.uint8]
    field: NDArray[np.uint8]
    digest: str


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one file.

    Attributes:
        sha256: of its bytes; "" where it could not be read.
        views: None where its content was known, or cannot be decoded.
        fault: why it cannot be read or decoded, "" where it can.
    """

    sha256: str
    views: Views | None = None
    fault: str = ""


def look_at(data: bytes, known: frozenset[str]) -> Outcome:
    """Name some bytes by their hash, and decode them unless that hash is known."""
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 in known:
        return Outcome(sha256=sha256)
    try:
        return Outcome(sha256=sha256, views=decode_views(data))
    except ImageRejected as error:
        return Outcome(sha256=sha256, fault=str(error))


def decode_views(data: bytes) -> Views:
    """Decode once and scale twice.

    Raises:
        ImageRejected: by the rules of core.imaging.
    """
    full = decode_full(data)
    return Views(
        pixels=scale(full, WIDTH, HEIGHT),
        field=scale(full, FIELD_WIDTH, FIELD_HEIGHT),
        digest=_digest(np.asarray(full)),
    )


def _digest(pixels: NDArray[np.uint8]) -> str:
    return blake3(str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
