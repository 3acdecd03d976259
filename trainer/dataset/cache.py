"""Decoded arrays on disk, named by the content of the files that they came from.

An entry is a folder with two plain files of rows, mapped into memory, and entry.json, which says which file each row
came from. It is built under another name, flushed and renamed in one step: an entry that is there is whole. Processes
that build at once build twice and one of them wins; a lock would make one wait for another that may hang.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.imaging import PREPROCESSING
from trainer.dataset.building import FIELD_BYTES, PIXELS_BYTES, Building, named_faults, sync_folder
from trainer.dataset.decoding import FIELD_HEIGHT, FIELD_SHAPE, FIELD_WIDTH, PIXELS_SHAPE, Views
from trainer.errors import DatasetError

_BUILDING = ".building-"
_UNUSED_S = 30 * 86400
_JUST_MADE_S = 60


@dataclass(frozen=True, kw_only=True)
class Record:
    """One file of an entry; the field names are those of entry.json.

    Attributes:
        sha256: of the file's bytes, "" where they could not be read.
        digest: of its decoded pixels, "" where they could not be decoded.
        fault: why not.
        row: of the arrays; None for broken files, and for images left out because they are there twice.
    """

    sha256: str
    digest: str = ""
    fault: str = ""
    row: int | None = None


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Decoded images, in the order of the records that have a row.

    Attributes:
        pixels: uint8 (N, 96, 144, 3).
        fields: uint8 (N, 192, 288, 3).
    """

    records: tuple[Record, ...]
    pixels: NDArray[np.uint8]
    fields: NDArray[np.uint8]


def default_cache() -> Path:
    """Return the user's cache folder: $XDG_CACHE_HOME/histobatch, or ~/.cache/histobatch."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if Path(named).is_absolute() else Path.home() / ".cache") / "histobatch"


def content_key(files: Sequence[tuple[str, int]]) -> str:
    """Name the entry of these files, given as sha256 and label in the order of their names.

    The labels are in it because they decide which of two equal images is kept.
    """
    return hashlib.sha256("\n".join(f"{sha256} {label}" for sha256, label in files).encode()).hexdigest()


class ArrayCache:
    """Entries below a folder; everything that changes the arrays, decoders included, has a folder of its own."""

    def __init__(self, folder: Path) -> None:
        """Make the folder.

        Raises:
            DatasetError: it cannot be made.
        """
        decoders = f"pillow-{version('pillow')}+kornia_rs-{version('kornia-rs')}"
        self.top = folder
        self.folder = folder / f"{PREPROCESSING}+{FIELD_WIDTH}x{FIELD_HEIGHT}+{decoders}"
        with named_faults(folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def open(self, key: str) -> Arrays | None:
        """Map an entry into memory; None where there is none, or one that does not hold what it says.

        The mapping is private to the process: what is written into the arrays reaches no file.
        """
        folder = self.folder / key
        try:
            content = json.loads((folder / "entry.json").read_text(encoding="utf-8"))
            records = tuple(Record(**record) for record in content["records"])
            count = sum(record.row is not None for record in records)
            pixels = _mapped(folder / "pixels.bin", (count, *PIXELS_SHAPE))
            fields = _mapped(folder / "fields.bin", (count, *FIELD_SHAPE))
            os.utime(folder / "entry.json")  # entries that nobody uses are removed in the end
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Arrays(records=records, pixels=pixels, fields=fields)

    def known(self) -> dict[str, Views]:
        """Return what is decoded already, in whatever entry, by the sha256 of the files."""
        found: dict[str, Views] = {}
        for folder in self.folder.glob("*/entry.json"):
            arrays = None if folder.parent.name.startswith(".") else self.open(folder.parent.name)
            for record in arrays.records if arrays else ():
                if arrays and record.row is not None:
                    found[record.sha256] = Views(
                        pixels=arrays.pixels[record.row], field=arrays.fields[record.row], digest=record.digest
                    )
        return found

    @contextmanager
    def building(self, files: int) -> Iterator[Building]:
        """Give a new entry to fill; what is not finished is removed.

        Raises:
            DatasetError: the disk is too small, full or read-only.
        """
        self._remove_the_dead()
        with named_faults(self.top):
            needed, free = files * (PIXELS_BYTES + FIELD_BYTES), shutil.disk_usage(self.folder).free
            if needed > free:
                raise DatasetError(
                    f"the cache needs {needed / 1e6:,.0f} MB below {self.top}, where {free / 1e6:,.0f} MB are free: "
                    "make room, or name another folder for it"
                )
            folder = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=self.folder))
        try:
            with Building.start(folder) as building:
                yield building
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def commit(self, building: Building, key: str, records: Sequence[Record]) -> Arrays:
        """Make an entry of what was built, or take the one that another process made meanwhile."""
        with named_faults(self.top):
            building.flush([vars(record) for record in records])
            try:
                os.rename(building.folder, self.folder / key)
            except OSError:
                if self.open(key) is None:  # in the way, and not whole
                    _remove(self.folder / key)
                    os.rename(building.folder, self.folder / key)
            sync_folder(self.folder)
        arrays = self.open(key)
        if arrays is None:
            raise DatasetError(f"the cache entry {self.folder / key} vanished: did somebody empty the cache? Try again")
        return arrays

    def _remove_the_dead(self) -> None:
        """Remove what a killed process left behind, and entries that nobody has used for a month."""
        now = time.time()
        for folder in list(self.folder.iterdir()):
            try:
                if folder.name.startswith(_BUILDING):
                    if now - folder.stat().st_mtime > _JUST_MADE_S and not _is_locked(folder / "pixels.bin"):
                        shutil.rmtree(folder, ignore_errors=True)
                elif now - (folder / "entry.json").stat().st_mtime > _UNUSED_S:
                    _remove(folder)
            except OSError:
                continue  # another process was faster


def _mapped(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if path.stat().st_size != int(np.prod(shape)):
        raise ValueError(f"{path} has another size")
    if not shape[0]:
        return np.zeros(shape, np.uint8)  # nothing cannot be mapped
    return np.memmap(path, np.uint8, "c", shape=shape).view(np.ndarray)


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _remove(folder: Path) -> None:
    """Remove an entry: first its name, so that nobody opens half of it."""
    gone = folder.with_name(f"{_BUILDING}removed-{os.getpid()}-{folder.name}")
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)
