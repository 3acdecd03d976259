"""Manifests: CSV files that say of images which patient, slide and magnification they show."""

import csv
import io
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from core.errors import PermanentError
from core.paths import path_to_text
from core.storage.protocol import Reader

_LABELS = ("patient", "slide", "magnification")
_MAX_BYTES = 2**30  # a million lines have less than a tenth of it
_LONGEST_LABEL = 200
_FAULTS = {
    "bad_lines": "lines could not be read",
    "doubled_paths": "files were named twice with equal labels",
    "contradictory_paths": "files were named twice with different labels, and have none",
    "unknown_columns": "columns are unknown",
}


class ManifestUnusable(PermanentError):
    """A manifest says nothing that can be understood."""


class Row(NamedTuple):
    """What a manifest says of one file."""

    patient: str | None
    slide: str | None
    magnification: str | None
    is_contradictory: bool


class Manifest:
    """The lines of a manifest, in a scratch database of SQLite's own: a million of them take 3 MB of memory.

    SQLite deletes its file when it is made, so that nothing is left by a process that dies. It lies in the folder for
    temporary files. For one thread at a time.

    Attributes:
        lines: lines that said something.
        faults: what was wrong, counted.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        self._database.execute("CREATE TABLE file (path TEXT PRIMARY KEY, p, s, m, bad INT) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self.lines = 0
        self.faults: Mapping[str, int] = {}

    def find(self, path: str) -> Row | None:
        """Look a file up by its path as text."""
        query = self._database.execute("SELECT p, s, m, bad FROM file WHERE path = ?", (path.replace("\\", "/"),))
        found = query.fetchone()
        return Row(found[0], found[1], found[2], bool(found[3])) if found else None

    def fill(self, rows: Iterator[tuple[str, ...]], counts: Counter[str]) -> None:
        """Take lines in: path and three labels each, "" for none."""
        for row in rows:
            self.lines += 1
            values = (row[0], *(label or None for label in row[1:]))
            try:
                self._database.execute("INSERT INTO file VALUES (?, ?, ?, ?, 0)", values)
            except sqlite3.IntegrityError:
                self._double(values, counts)
        self.faults = {name: counts[name] for name in _FAULTS if counts[name]}

    def describe_faults(self) -> str | None:
        """Say what was wrong in a sentence without names; None where nothing was."""
        if not self.faults:
            return None
        return "of the manifest, " + ", ".join(f"{count} {_FAULTS[name]}" for name, count in self.faults.items())

    def close(self) -> None:
        """Free the scratch file."""
        self._database.close()

    def __del__(self) -> None:
        self.close()

    def _double(self, values: tuple[str | None, ...], counts: Counter[str]) -> None:
        earlier = self._database.execute("SELECT p, s, m FROM file WHERE path = ?", values[:1]).fetchone()
        if earlier == values[1:]:
            counts["doubled_paths"] += 1
            return
        # Two patients for one image: whichever we took, it might be the wrong one.
        counts["contradictory_paths"] += 1
        self._database.execute("UPDATE file SET bad = 1 WHERE path = ?", values[:1])


def read_manifest(file: Reader) -> Manifest:
    """Read a manifest to its end: UTF-8, columns path, patient, slide, magnification, separated by , or ; or tab.

    All columns but path may be absent. Paths are relative to the folder that holds the manifest's root.

    Raises:
        ManifestUnusable: it has no column "path", is not UTF-8, or is too long.
    """
    if file.size > _MAX_BYTES:
        raise ManifestUnusable(f"it has more than {_MAX_BYTES} bytes")
    counts: Counter[str] = Counter()
    text = io.TextIOWrapper(io.BufferedReader(_Raw(file)), "utf-8-sig", errors="surrogateescape", newline="")
    first = text.readline(64 * 1024)
    delimiter = next((mark for mark in ",;\t" if mark in first), ",")
    columns = [name.strip().strip('"').casefold() for name in first.strip().split(delimiter)]
    if columns.count("path") != 1:
        raise ManifestUnusable('its first line must name a column "path": path,patient,slide,magnification, as UTF-8')
    places = [columns.index(name) if name in columns else None for name in ("path", *_LABELS)]
    counts["unknown_columns"] = len([name for name in columns if name not in {"path", *_LABELS}])
    manifest = Manifest()
    manifest.fill(_rows(csv.reader(text, delimiter=delimiter), places, counts), counts)
    return manifest


def _rows(lines: Iterator[list[str]], places: list[int | None], counts: Counter[str]) -> Iterator[tuple[str, ...]]:
    width = max(place for place in places if place is not None) + 1
    while True:
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error:
            counts["bad_lines"] += 1
            continue
        if not any(cells):
            continue
        row = _row(cells, places) if len(cells) >= width else None
        if row is None:
            counts["bad_lines"] += 1
        else:
            yield row


def _row(cells: list[str], places: list[int | None]) -> tuple[str, ...] | None:
    path, *labels = ("" if place is None else cells[place].strip() for place in places)
    path = path.replace("\\", "/").removeprefix("./")
    if not path or "\0" in path or not all(_is_label(label) for label in labels):
        return None
    return (path_to_text(path.encode("utf-8", "surrogateescape")), *labels)


def _is_label(label: str) -> bool:
    # What is not UTF-8 became half characters, which are not printable.
    return not label or (len(label) <= _LONGEST_LABEL and label.isprintable())


class _Raw(io.RawIOBase):
    """A storage's file as a stream of Python's."""

    def __init__(self, file: Reader) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
