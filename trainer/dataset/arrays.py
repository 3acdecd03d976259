"""Files to arrays: what is known comes from the cache, the rest is decoded once."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainer.dataset.building import Building, named_faults
from trainer.dataset.cache import ArrayCache, Arrays, Record, content_key
from trainer.dataset.decoding import FIELD_SHAPE, PIXELS_SHAPE, Outcome
from trainer.dataset.doubles import find_doubles
from trainer.dataset.origins import Origin
from trainer.dataset.pool import Listener, look_at_files
from trainer.dataset.stamps import StampIndex


@dataclass(frozen=True)
class LabelledFile:
    """An image file, and the class that its name tells."""

    path: Path
    label: int


def decoded_arrays(files: Sequence[LabelledFile], origin: Origin, listener: Listener) -> Arrays:
    """Decode files into memory.

    Args:
        files: in the order of their names, which is the order of the rows.
        origin: where to read them.
        listener: told of progress.

    Raises:
        DatasetError: a decoding process died.
    """
    pixels = np.zeros((len(files), *PIXELS_SHAPE), np.uint8)
    fields = np.zeros((len(files), *FIELD_SHAPE), np.uint8)
    slots = {file.path: slot for slot, file in enumerate(files)}
    records = [Record(sha256="")] * len(files)
    for path, outcome in look_at_files(list(slots), origin, frozenset(), listener):
        records[slots[path]] = _record(outcome)
        if outcome.views is not None:
            pixels[slots[path]], fields[slots[path]] = outcome.views.pixels, outcome.views.field
    kept = _kept(files, records)
    if len(kept) < len(files):
        pixels, fields = pixels[kept], fields[kept]
    return Arrays(records=_numbered(records, kept), pixels=pixels, fields=fields)


def cached_arrays(files: Sequence[LabelledFile], origin: Origin, cache: Path, listener: Listener) -> Arrays:
    """Return the arrays of files from a cache, which holds them afterwards.

    Files whose stamp the index knows are not read. Of the others, those whose content is known are not decoded.

    Raises:
        DatasetError: the cache cannot be written, or a decoding process died.
    """
    entries, index = ArrayCache(cache), StampIndex(cache, origin.source)
    stamps = [(file.path, origin.stamp(file.path)) for file in files]
    found = [index.find(path, stamp) or "" for path, stamp in stamps]
    arrays = entries.open(_key(files, found)) if all(found) else None
    if arrays is None:
        arrays = _built(files, found, origin, entries, listener)
    with named_faults(cache):
        index.replace({stamp: record.sha256 for stamp, record in zip(stamps, arrays.records, strict=True)})
    return arrays


def _built(
    files: Sequence[LabelledFile], found: Sequence[str], origin: Origin, entries: ArrayCache, listener: Listener
) -> Arrays:
    """Read what the index does not know, decode what no entry holds, and make the entry unless it is there."""
    known = entries.known()
    records = [Record(sha256=sha256, digest=known[sha256].digest) if sha256 in known else None for sha256 in found]
    slots = {file.path: slot for slot, file in enumerate(files) if records[slot] is None}
    written: set[int] = set()
    with ExitStack() as stack:
        building: Building | None = None
        for path, outcome in look_at_files(list(slots), origin, frozenset(known), listener):
            records[slots[path]] = _record(outcome, known[outcome.sha256].digest if outcome.sha256 in known else "")
            if outcome.views is not None:
                building = building or stack.enter_context(entries.building(len(files)))
                building.write(slots[path], outcome.views)
                written.add(slots[path])
        whole = [record for record in records if record is not None]
        key = _key(files, [record.sha256 for record in whole])
        there = entries.open(key)
        if there is not None:
            return there
        building = building or stack.enter_context(entries.building(len(files)))
        for slot, record in enumerate(whole):
            if record.digest and slot not in written:
                building.write(slot, known[record.sha256])
        kept = _kept(files, whole)
        building.keep(kept)
        return entries.commit(building, key, _numbered(whole, kept))


def _record(outcome: Outcome, known_digest: str = "") -> Record:
    digest = known_digest if outcome.views is None else outcome.views.digest
    return Record(sha256=outcome.sha256, digest=digest, fault=outcome.fault)


def _kept(files: Sequence[LabelledFile], records: Sequence[Record]) -> list[int]:
    """Return the positions that become rows: decoded, and no double of another."""
    left_out = find_doubles([record.digest for record in records], [file.label for file in files]).left_out
    return [slot for slot, record in enumerate(records) if record.digest and slot not in left_out]


def _numbered(records: Sequence[Record], kept: Sequence[int]) -> tuple[Record, ...]:
    rows = {slot: row for row, slot in enumerate(kept)}
    return tuple(replace(record, row=rows.get(slot)) for slot, record in enumerate(records))


def _key(files: Sequence[LabelledFile], hashes: Sequence[str]) -> str:
    return content_key([(sha256, file.label) for file, sha256 in zip(files, hashes, strict=True)])
