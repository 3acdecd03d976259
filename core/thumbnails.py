"""Small pictures for people: made from an image's bytes, and kept by content within a bound."""

import contextlib
import io
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray
from PIL import Image

from core.imaging import ImageLimits, decode_full
from core.occlusion import lay_over

log = structlog.get_logger(__name__)

LONG_SIDE_PX = 192
_QUALITY = 80
# What a screen shows beside the facts; the images of most microscope cameras keep their size, or half of it.
PREVIEW_LONG_SIDE_PX = 1280
_PREVIEW_QUALITY = 92
# Another name for another look: old pictures are then made anew, and fall out of the cache.
_LOOK = "v1"
# A look through all files follows when this share of the bound was written, and leaves as much room.
_SHARE = 1 / 16
# Reading a picture makes it young again, at most once in this time.
_TOUCH_AFTER_S = 3600


def make_thumbnail(data: bytes, limits: ImageLimits) -> bytes:
    """Make a JPEG whose long side is 192 pixels; a smaller image keeps its size.

    Raises:
        ImageRejected: it cannot be decoded, or is larger than the limits.
    """
    return _save(_shrink(data, limits, LONG_SIDE_PX), quality=_QUALITY, optimize=True)


def make_preview(data: bytes, limits: ImageLimits, effects: NDArray[np.float32] | None = None) -> bytes:
    """Make a JPEG whose long side is 1280 pixels, with colours as fine as its edges; a smaller image keeps its size.

    Args:
        data: the bytes of an image file.
        limits: sizes outside which the image is refused.
        effects: of its places on the probability, to be laid over it (core.occlusion).

    Raises:
        ImageRejected: it cannot be decoded, or is larger than the limits.
    """
    image = _shrink(data, limits, PREVIEW_LONG_SIDE_PX)
    if effects is not None:
        image = lay_over(image, effects)
    return _save(image, quality=_PREVIEW_QUALITY, subsampling=0)


def _shrink(data: bytes, limits: ImageLimits, long_side_px: int) -> Image.Image:
    image = decode_full(data, limits)
    image.thumbnail((long_side_px, long_side_px), Image.Resampling.BOX)
    return image


def _save(image: Image.Image, **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


class ThumbnailCache:
    """Pictures by content hash in a folder that several processes may share; those unused for longest go first.

    Each process looks through the folder again when it has written a sixteenth of the bound, so the folder exceeds it
    by that much for each process at most, and not for long.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder / _LOOK
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        # The first picture that is written looks at what earlier processes left.
        self._written = max_bytes

    def get(self, content_hash: str) -> bytes | None:
        """Return the picture, None where there is none."""
        path = self._path(content_hash)
        try:
            data = path.read_bytes()
            if path.stat().st_mtime < time.time() - _TOUCH_AFTER_S:
                os.utime(path)
        except OSError:
            return None
        return data

    def put(self, content_hash: str, data: bytes) -> None:
        """Keep a picture, and make room for it. A disk that fails costs the picture, not the answer."""
        if len(data) > self._max_bytes * _SHARE:
            return
        path = self._path(content_hash)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(data)
            part.replace(path)
        except OSError as error:
            log.warning("thumbnail_not_kept", error=type(error).__name__)
            with contextlib.suppress(OSError):
                part.unlink()
            return
        self._make_room(len(data))

    def forget(self, content_hashes: Iterable[str]) -> None:
        """Delete pictures whose images were deleted."""
        for content_hash in content_hashes:
            with contextlib.suppress(OSError):
                self._path(content_hash).unlink()

    def _path(self, content_hash: str) -> Path:
        return self._folder / content_hash[:2] / f"{content_hash}.jpg"

    def _make_room(self, added: int) -> None:
        with self._lock:
            self._written += added
            if self._written < self._max_bytes * _SHARE:
                return
            self._written = 0
        found = sorted(self._files())
        total = sum(size for _, size, _ in found)
        room = self._max_bytes * (1 - _SHARE)
        for _, size, path in found:
            if total <= room:
                break
            # Another process may have been faster.
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Every file: when it was used last, its size, its path."""
        # Other looks and what killed processes left half written count and go as well: nobody reads them any more.
        for path in self._folder.parent.glob("*/*/*"):
            with contextlib.suppress(OSError):
                status = path.stat()
                yield status.st_mtime, status.st_size, path
