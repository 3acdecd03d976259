"""Walk a folder: every file below it becomes one entry, whatever it is."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.errors import FolderError, Reason
from core.paths import path_to_text
from core.states import ItemState

# What operating systems and viewers leave in folders of images, besides every name that starts with a dot.
_SYSTEM_NAMES = frozenset({b"thumbs.db", b"desktop.ini", b"ehthumbs.db"})
# What accompanies images on purpose. Everything else is judged by its content, never by its name.
_SIDECAR_SUFFIXES = (
    b".txt",
    b".csv",
    b".tsv",
    b".json",
    b".xml",
    b".md",
    b".pdf",
    b".html",
    b".log",
    b".ini",
    b".xlsx",
)


@dataclass(frozen=True)
class Entry:
    """One file as it was listed.

    Attributes:
        path: relative to the folder, as text (core.paths); folders that cannot be entered end in "/".
        state: PENDING, or at once FAILED or SKIPPED with a reason.
    """

    path: str
    size: int = 0
    mtime_ns: int = 0
    state: ItemState = ItemState.PENDING
    reason: Reason | None = None
    detail: str | None = None


def list_folder(folder: bytes, roots: tuple[Path, ...]) -> Iterator[Entry]:
    """Yield an entry for each file below a folder, in the order of the file system, memory flat.

    Args:
        folder: absolute path.
        roots: links to files are followed only to places below these.

    Raises:
        FolderError: the folder itself cannot be listed.
    """
    try:
        os.scandir(folder).close()
    except OSError as error:
        raise _folder_error(error) from error
    pending = [b""]
    while pending:
        relative = pending.pop()
        try:
            with os.scandir(os.path.join(folder, relative)) as found:
                for entry in found:
                    path = os.path.join(relative, entry.name)
                    if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(b"."):
                        pending.append(path)
                    else:
                        yield _judge(entry, path, roots)
        except OSError as error:
            yield _failed(relative + b"/", _reason_of(error), f"the folder cannot be listed ({error.strerror})")


def _judge(entry: "os.DirEntry[bytes]", path: bytes, roots: tuple[Path, ...]) -> Entry:
    name = entry.name.lower()
    if name.startswith(b".") or name in _SYSTEM_NAMES:
        return _skipped(path, Reason.SYSTEM_FILE, "left by an operating system or a program")
    if name.endswith(_SIDECAR_SUFFIXES):
        return _skipped(path, Reason.SIDECAR_FILE, "a document beside the images")
    try:
        if entry.is_symlink() and (refused := _judge_link(entry, path, roots)):
            return refused
        status = entry.stat()
    except OSError as error:
        return _failed(path, _reason_of(error), f"the file cannot be looked at ({error.strerror})")
    if not stat.S_ISREG(status.st_mode):
        return _skipped(path, Reason.NOT_A_FILE, "a pipe, socket or device")
    return Entry(path_to_text(path), status.st_size, status.st_mtime_ns)


def _judge_link(entry: "os.DirEntry[bytes]", path: bytes, roots: tuple[Path, ...]) -> Entry | None:
    if entry.is_dir():
        return _skipped(path, Reason.FOLDER_LINK, "links to folders are not followed: submit the folder itself")
    if not is_below(os.path.realpath(entry.path), roots):
        return _failed(path, Reason.OUTSIDE_ROOT, "the link leads out of the allowed roots")
    return None


def is_below(path: bytes, roots: tuple[Path, ...]) -> bool:
    """Whether a resolved path lies below one of the roots."""
    return any(path.startswith(os.path.join(os.fsencode(root), b"")) for root in roots)


def _failed(path: bytes, reason: Reason, detail: str) -> Entry:
    return Entry(path_to_text(path), state=ItemState.FAILED, reason=reason, detail=detail)


def _skipped(path: bytes, reason: Reason, detail: str) -> Entry:
    return Entry(path_to_text(path), state=ItemState.SKIPPED, reason=reason, detail=detail)


def _reason_of(error: OSError) -> Reason:
    if isinstance(error, FileNotFoundError):
        return Reason.VANISHED
    return Reason.PERMISSION_DENIED if isinstance(error, PermissionError) else Reason.READ_FAILED


def _folder_error(error: OSError) -> FolderError:
    if isinstance(error, PermissionError):
        return FolderError(Reason.PERMISSION_DENIED, "the worker may not read the folder: grant its user read access")
    if isinstance(error, FileNotFoundError):
        return FolderError(Reason.FOLDER_MISSING, "there is no such folder: is the storage mounted at the worker?")
    return FolderError(Reason.READ_FAILED, f"the folder cannot be listed ({error.strerror})")
