"""An entry of the cache under construction."""

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from trainer.dataset.decoding import FIELD_SHAPE, PIXELS_SHAPE, Views
from trainer.errors import DatasetError

PIXELS_BYTES, FIELD_BYTES = int(np.prod(PIXELS_SHAPE)), int(np.prod(FIELD_SHAPE))


class Building:
    """Arrays under construction: written by plain writes, because a mapped page on a full disk kills the process."""

    def __init__(self, folder: Path, pixels: int, fields: int) -> None:
        self.folder = folder
        self._pixels, self._fields = pixels, fields

    @classmethod
    @contextmanager
    def start(cls, folder: Path) -> Iterator[Self]:
        """Open the two files; the lock on the first tells others that this process lives."""
        with (folder / "pixels.bin").open("w+b") as pixels, (folder / "fields.bin").open("w+b") as fields:
            fcntl.flock(pixels, fcntl.LOCK_EX)
            yield cls(folder, pixels.fileno(), fields.fileno())

    def write(self, slot: int, views: Views) -> None:
        """Write one image; slots may come in any order and leave holes."""
        with named_faults(self.folder.parent):
            _write_at(self._pixels, views.pixels, slot * PIXELS_BYTES)
            _write_at(self._fields, views.field, slot * FIELD_BYTES)

    def keep(self, slots: Sequence[int]) -> None:
        """Leave only these slots, which rise, as rows without gaps."""
        with named_faults(self.folder.parent):
            for file, size in ((self._pixels, PIXELS_BYTES), (self._fields, FIELD_BYTES)):
                for row, slot in enumerate(slots):
                    if row != slot:
                        _write_at(file, np.frombuffer(os.pread(file, size, slot * size), np.uint8), row * size)
                os.ftruncate(file, len(slots) * size)

    def flush(self, records: Sequence[dict[str, object]]) -> None:
        """Write entry.json, and have everything on the disk before the rename can be."""
        with (self.folder / "entry.json").open("w", encoding="utf-8") as stream:
            json.dump({"records": list(records)}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.fsync(self._pixels)
        os.fsync(self._fields)
        sync_folder(self.folder)


@contextmanager
def named_faults(folder: Path) -> Iterator[None]:
    """Name the cache, the cause and the way out where its folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"the cache {folder} cannot be written ({error.strerror}): make room, or name another folder for it"
        ) from error


def _write_at(file: int, content: NDArray[np.uint8], offset: int) -> None:
    rest = memoryview(content.tobytes())
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
