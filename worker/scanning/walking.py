"""Walk an archive in an order that never changes, listing the next folders ahead: shared storage answers slowly."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from zlib import crc32

from core.errors import Reason
from core.states import ItemState
from core.storage.protocol import Entry, Folder, Storage
from worker.scanning.patterns import Patterns

# Folders that are listed at once where storage answers slowly, so that each hides the others' waits.
_AHEAD = 8
# Where a folder's listing waits less than this for the storage, threads only take turns at Python's lock, and the walk
# is half again as fast without them.
_SLOW_S = 0.001
# So many folders tell how slow it is, and what they tell holds for so many more.
_TRIES, _HOLDS = 8, 200
# What is never an image on purpose is neither recorded nor counted: there may be as many of them as images.
_UNCOUNTED = frozenset({Reason.SYSTEM_FILE, Reason.SIDECAR_FILE})
# A file's size in archive_file where it cannot be looked at; its time is then a number for the reason.
UNREADABLE = -2

Stat = tuple[int, int]


@dataclass
class Listing:
    """What lies directly in one folder.

    Attributes:
        path: relative to the root, as text; "" is the root.
        files: size and mtime_ns of each file that counts, by name.
        refused: entries of those that cannot be looked at, by name; they are in files, too.
        unopened: paths of those that failed, such as zip files that cannot be read, whether they count or not.
        folders: paths of its subfolders, sorted.
        is_whole: it could be listed to its end.
        is_empty: it shows nothing at all, not even what does not count.
    """

    path: str
    files: dict[str, Stat] = field(default_factory=dict)
    refused: dict[str, Entry] = field(default_factory=dict)
    unopened: set[str] = field(default_factory=set)
    folders: list[str] = field(default_factory=list)
    is_whole: bool = True
    is_empty: bool = True


def order(path: str) -> list[str]:
    """The key by which folders are walked: a folder before those in it, neighbours by name."""
    return path.split("/") if path else []


def walk(storage: Storage, patterns: Patterns, position: str | None) -> Iterator[Listing]:
    """Yield a listing of each folder behind a position; of the root first and always.

    Folders up to the position are entered only where they lead behind it.

    Raises:
        FolderError, StorageAway: as Storage.list_folder.
    """
    behind = None if position is None else order(position)
    lister = _Lister(storage, patterns)
    pending = [""]  # the next is the last
    try:
        while pending:
            listing = lister.list(pending)
            pending.pop()
            pending += reversed([folder for folder in listing.folders if _leads_behind(folder, behind)])
            if listing.path == "" or behind is None or order(listing.path) > behind:
                yield listing
    finally:
        lister.close()


class _Lister:
    """Lists folders one after the other, those to come ahead where the storage is slow."""

    def __init__(self, storage: Storage, patterns: Patterns) -> None:
        self._storage = storage
        self._patterns = patterns
        self._threads = ThreadPoolExecutor(_AHEAD, thread_name_prefix="scan")
        self._listed: dict[str, Future[Listing]] = {}
        self._waited_s: list[float] = []
        self._ahead = 0

    def list(self, pending: Sequence[str]) -> Listing:
        """List the last of the folders that are pending."""
        if self._ahead > 0:
            self._ahead -= 1
            for path in islice(reversed(pending), _AHEAD):
                if path not in self._listed:
                    self._listed[path] = self._threads.submit(list_level, self._storage, self._patterns, path)
        if future := self._listed.pop(pending[-1], None):
            return future.result()
        return self._try(pending[-1])

    def close(self) -> None:
        """List no more."""
        # Without waiting: a folder on storage that hangs must not hold who ends the scan.
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _try(self, path: str) -> Listing:
        """List a folder here, and see how long it waits for the storage."""
        start, worked = time.perf_counter(), time.thread_time()
        listing = list_level(self._storage, self._patterns, path)
        self._waited_s.append(time.perf_counter() - start - (time.thread_time() - worked))
        if len(self._waited_s) >= _TRIES:
            # The middle one: that the machine was busy with something else for a moment means nothing.
            if sorted(self._waited_s)[_TRIES // 2] > _SLOW_S:
                self._ahead = _HOLDS
            self._waited_s.clear()
        return listing


def list_level(storage: Storage, patterns: Patterns, path: str) -> Listing:
    """List one folder and leave out what does not count."""
    listing = Listing(path)
    start = len(path) + 1 if path else 0
    files, takes_all = listing.files, patterns.take_all
    for found in storage.list_folder(path):
        listing.is_empty = False
        if isinstance(found, Folder):
            if patterns.enters(found.path):
                listing.folders.append(found.path)
            continue
        name = found.path[start:]
        if found.state == ItemState.PENDING:
            if takes_all or patterns.takes(found.path):
                files[name] = (found.size, found.mtime_ns)
        else:
            _note_refused(listing, patterns, name, found)
    listing.folders.sort(key=order)
    return listing


def _note_refused(listing: Listing, patterns: Patterns, name: str, entry: Entry) -> None:
    if entry.state == ItemState.FAILED:
        listing.unopened.add(entry.path)
    if name == "":
        listing.is_whole = False
    elif entry.reason in _UNCOUNTED or not patterns.takes(entry.path):
        return
    listing.files[name] = (UNREADABLE, crc32(str(entry.reason).encode()))
    listing.refused[name] = entry


def _leads_behind(folder: str, behind: list[str] | None) -> bool:
    if behind is None:
        return True
    key = order(folder)
    return key > behind or behind[: len(key)] == key
