"""Compare what lies in folders with what is stored of them."""

import time
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from enum import StrEnum

from core.storage.protocol import Entry
from worker.scanning.known import Known
from worker.scanning.walking import UNREADABLE, Listing, Stat


class Kind(StrEnum):
    """What a file that is recorded is, by the counter of the scan that counts it."""

    NEW = "new"
    CHANGED = "changed"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Found:
    """A file to record.

    Attributes:
        folder: path of its folder.
        size, mtime_ns: as archive_file stores them.
    """

    folder: str
    name: str
    kind: Kind
    entry: Entry
    size: int
    mtime_ns: int


@dataclass
class Counts:
    """Counters of a scan, as its columns are called."""

    seen: int = 0
    unchanged: int = 0
    new: int = 0
    changed: int = 0
    settling: int = 0
    unreadable: int = 0
    deleted: int = 0
    withheld: int = 0

    def add(self, other: "Counts") -> None:
        """Add other counts to these."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass
class Difference:
    """How folders differ from what is stored.

    Attributes:
        found: files to record; counts does not hold them yet.
        gone: folder id and name of each file that is not there any more.
        gone_folders: ids of folders that are not there any more, each with all below it.
        position: the last of these folders; None where there are none.
    """

    found: list[Found] = field(default_factory=list)
    gone: list[tuple[int, str]] = field(default_factory=list)
    gone_folders: list[int] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    position: str | None = None


@dataclass(frozen=True, kw_only=True)
class Comparer:
    """How one scan compares.

    Attributes:
        settle_s: files changed more recently may still be written.
        accepts_missing: a folder that lies there empty has lost its files.
        recorded: paths that this scan has counted already.
        count_below: counts the files stored in folders and all below them: all of them, and the readable ones.
    """

    settle_s: float
    accepts_missing: bool
    recorded: AbstractSet[str]
    count_below: Callable[[Sequence[int]], tuple[int, int]]

    def compare(self, listings: Sequence[Listing], known: Known) -> Difference:
        """Compare folders that were listed one after the other. Empties the listings."""
        difference = Difference(position=listings[-1].path)
        by_id = {known.ids[listing.path]: listing for listing in listings if listing.path in known.ids}
        if self.recorded:
            for listing in listings:
                self._drop_recorded(listing)
        refused = sum(len(listing.refused) for listing in listings)
        difference.counts.unchanged = self._compare_files(difference, by_id, known)
        for listing in listings:
            if listing.files:
                self._take(difference, listing, listing.files, Kind.NEW)
            for path, folder_id in _missing_folders(listing, known):
                # A zip that cannot be read for the moment is no folder now, and its files are not gone for that.
                is_closed = path in listing.unopened and not self.accepts_missing
                self._miss_folder(difference, folder_id, is_doubtful=is_closed or self._is_doubtful(listing))
        # What cannot be looked at and is stored so compares as unchanged.
        still = refused - sum(found.kind == Kind.UNREADABLE for found in difference.found)
        difference.counts.unreadable += still
        difference.counts.unchanged -= still
        difference.counts.seen = difference.counts.unchanged + difference.counts.settling + still
        return difference

    def _compare_files(self, difference: Difference, by_id: Mapping[int, Listing], known: Known) -> int:
        unchanged = 0
        changed: dict[int, dict[str, Stat]] = {}
        for folder_id, name, size, mtime_ns in known.files:
            stat = by_id[folder_id].files.pop(name, None)
            if stat is None:
                self._miss_file(difference, by_id[folder_id], folder_id, name, size)
            elif stat[1] == mtime_ns and stat[0] == size:
                unchanged += 1
            else:
                changed.setdefault(folder_id, {})[name] = stat
        for folder_id, files in changed.items():
            self._take(difference, by_id[folder_id], files, Kind.CHANGED)
        return unchanged

    def _take(self, difference: Difference, listing: Listing, files: Mapping[str, Stat], kind: Kind) -> None:
        now = time.time_ns()
        margin = int(self.settle_s * 1e9)
        prefix = f"{listing.path}/" if listing.path else ""
        for name, (size, mtime_ns) in sorted(files.items()):
            if size == UNREADABLE:
                entry = listing.refused[name]
                difference.found.append(Found(listing.path, name, Kind.UNREADABLE, entry, size, mtime_ns))
            elif now - margin < mtime_ns <= now + margin:
                difference.counts.settling += 1
            else:
                # Also what lies further in the future: a clock was ahead, and waiting for that day helps nobody. The
                # worker sees when the file is read whether it still is as it was listed.
                entry = Entry(prefix + name, size, mtime_ns)
                difference.found.append(Found(listing.path, name, kind, entry, size, mtime_ns))

    def _miss_file(self, difference: Difference, listing: Listing, folder_id: int, name: str, size: int) -> None:
        if self.recorded and _join(listing.path, name) in self.recorded:
            return
        if size == UNREADABLE:
            if listing.is_whole:
                difference.gone.append((folder_id, name))
        elif self._is_doubtful(listing):
            difference.counts.withheld += 1
        else:
            difference.gone.append((folder_id, name))
            difference.counts.deleted += 1

    def _miss_folder(self, difference: Difference, folder_id: int, *, is_doubtful: bool) -> None:
        stored, readable = self.count_below([folder_id])
        if is_doubtful:
            difference.counts.withheld += readable
        elif stored:
            difference.gone_folders.append(folder_id)
            difference.counts.deleted += readable

    def _is_doubtful(self, listing: Listing) -> bool:
        """Whether what a folder does not show may be there all the same: it may be a mount point of storage away."""
        return not listing.is_whole or (listing.is_empty and not self.accepts_missing)

    def _drop_recorded(self, listing: Listing) -> None:
        for name in [name for name in listing.files if _join(listing.path, name) in self.recorded]:
            del listing.files[name]
            listing.refused.pop(name, None)


def _missing_folders(listing: Listing, known: Known) -> list[tuple[str, int]]:
    stored = known.below.get(known.ids.get(listing.path, 0), ())
    there = set(listing.folders) if stored else set()
    return [(path, folder_id) for path, folder_id in stored if path not in there]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
