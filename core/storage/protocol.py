"""The seam between the programs and whatever holds images: folders, buckets, and containers read in place."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from core.errors import Reason
from core.states import ItemState


class Entry(NamedTuple):
    """One file as it was listed. A tuple, because a scan makes one for each of a million files.

    Attributes:
        path: relative to the root, as text (core.paths); folders that cannot be entered end in "/".
        state: PENDING, or at once FAILED or SKIPPED with a reason.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    state: ItemState = ItemState.PENDING
    reason: Reason | None = None
    detail: str | None = None


@dataclass(frozen=True)
class Folder:
    """A folder below the one that was listed, still to be listed itself. A zip or tar file is one, too.

    Attributes:
        path: relative to the root, as text; "" is the root.
    """

    path: str


class Reader(Protocol):
    """One open file.

    Attributes:
        size, mtime_ns: as they are now, to compare with what was listed.
        is_near: reading the file a second time costs next to nothing, as from a disk's cache.
    """

    size: int
    mtime_ns: int
    is_near: bool

    def read(self, number: int) -> bytes:
        """Return up to number bytes; b"" at the end."""
        ...


class Storage(Protocol):
    """One root and all below it: a plain value, cheap to make, to compare and to send to another process.

    It holds no connection and no open file; what is worth keeping between calls is kept by the process, within
    bounds. Safe to use from several threads.
    """

    def list_folder(self, path: str) -> Iterator[Entry | Folder]:
        """Yield what lies directly in a folder, in any order, memory flat.

        A subfolder that cannot be entered is still yielded as a Folder; listing that one yields its one failed Entry.

        Args:
            path: relative to the root, as text; "" is the root.

        Raises:
            FolderError: the root itself may not be listed.
            StorageAway: the storage went away, before or while it was listed.
        """
        ...

    def open(self, path: str) -> AbstractContextManager[Reader]:
        """Open a file for reading, whatever it has become since it was listed.

        Raises (also while it is read, inside the context):
            ImageRejected: the file is gone, unreadable, or lies outside the root.
            StorageAway: the file is not at fault.
        """
        ...
