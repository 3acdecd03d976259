"""Pictures on demand: from the cache, or read and made by the rules by which workers read."""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray

from api.problems import ApiError
from api.turns import take_turn
from core.errors import FolderError, ImageRejected, Reason, StorageAway
from core.imaging import ImageLimits, decode_rgb
from core.settings import Settings
from core.storage.opening import open_storage
from core.storage.reading import read_content
from core.thumbnails import ThumbnailCache, make_preview, make_thumbnail

# Decoding takes a core and up to 8 bytes a pixel, and the API has to answer others meanwhile.
_AT_ONCE = 2
# Who waits holds one of the API's 40 threads.
_MOST_WAITING = 8
_WAIT_S = 10
_RETRY_AFTER_S = 2
_MOST_PIXELS = 16_000_000
# People look at one picture at a time, and cameras of microscopes make larger ones than are made small in passing.
_PREVIEWS_AT_ONCE = 1
_MOST_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Which image is to be shown: where it lay when it was classified, and what its content was."""

    folder: str
    source: str
    path: str
    content_hash: str


class Thumbnails:
    """Makes few at once, and keeps what it made."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._cache = ThumbnailCache(settings.thumbnails_dir, settings.thumbnail_cache_bytes)
        self._places = threading.BoundedSemaphore(_AT_ONCE + _MOST_WAITING)
        self._turns = threading.BoundedSemaphore(_AT_ONCE)
        self._preview_turns = threading.BoundedSemaphore(_PREVIEWS_AT_ONCE)
        self._preview_limits = ImageLimits(max_pixels=settings.max_image_pixels, min_side_px=1)
        self._limits = ImageLimits(max_pixels=min(settings.max_image_pixels, _MOST_PIXELS), min_side_px=1)

    def find(self, picture: Picture) -> bytes | None:
        """Return the JPEG where it was made before."""
        return self._cache.get(picture.content_hash)

    def show(self, picture: Picture) -> bytes:
        """Return the JPEG, made now where it was not.

        Raises:
            ApiError: 410 where the file is gone, another, or no picture; 503 where its storage is away, or too many
                are being made.
        """
        return self.find(picture) or self._make(picture)

    def preview(self, picture: Picture, effects: NDArray[np.float32] | None = None) -> bytes:
        """Return a larger JPEG, made anew each time: it is looked at once, and kept nowhere.

        Args:
            effects: of its places on the probability, to be laid over it (core.occlusion).

        Raises:
            ApiError: as show().
        """
        with take_picture_turn(self._places, 0), take_picture_turn(self._preview_turns, _WAIT_S), _refusing():
            return make_preview(self._read(picture, self._settings.max_image_bytes), self._preview_limits, effects)

    def read_input(self, picture: Picture) -> NDArray[np.uint8]:
        """Return what the network gets of an image: RGB uint8 (96, 144, 3).

        Raises:
            ApiError: as show().
        """
        with take_picture_turn(self._places, 0), take_picture_turn(self._preview_turns, _WAIT_S), _refusing():
            return decode_rgb(self._read(picture, self._settings.max_image_bytes), self._preview_limits)

    def _make(self, picture: Picture) -> bytes:
        with take_picture_turn(self._places, 0), take_picture_turn(self._turns, _WAIT_S), _refusing():
            most = min(self._settings.max_image_bytes, _MOST_BYTES)
            data = make_thumbnail(self._read(picture, most), self._limits)
        self._cache.put(picture.content_hash, data)
        return data

    def _read(self, picture: Picture, most_bytes: int) -> bytes:
        storage = open_storage(picture.folder, self._settings, picture.source)
        return read_content(storage, picture.path, most_bytes, picture.content_hash)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what keeps a picture from being made into answers."""
    try:
        yield
    except ImageRejected as error:
        raise ApiError(HTTPStatus.GONE, error.reason, _say(error)) from error
    except FolderError as error:
        raise ApiError(HTTPStatus.GONE, error.reason, error.detail) from error
    except StorageAway as error:
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, Reason.STORAGE_AWAY, str(error), retry_after_s=60) from error


def take_picture_turn(turns: threading.Semaphore, wait_s: float) -> AbstractContextManager[None]:
    """Take one of the few turns at making pictures.

    Raises:
        ApiError: all are taken, for as long as is waited (503).
    """
    return take_turn(turns, wait_s, "too many pictures are being made: try again", _RETRY_AFTER_S)


def _say(error: ImageRejected) -> str:
    if error.reason == Reason.READ_FAILED:
        return "the file cannot be read, or its content is another than the one that was classified"
    return error.detail
