"""Read one file of a submission and hash its content."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from core.errors import ImageRejected, Reason, TransientError
from worker.listing import is_below

_PIECE = 2**20


class StorageAway(TransientError):
    """The submission's folder is gone: its storage is, not this one file."""


def hash_content(folder: bytes, path: bytes, roots: tuple[Path, ...], max_bytes: int) -> str:
    """Hash a file piece by piece: BLAKE3 of all bytes, hex digits.

    Raises:
        ImageRejected: the file is gone, unreadable, too large or lies outside the roots.
        StorageAway: the folder is gone, too.
    """
    hasher = blake3()
    with _open(folder, path, roots) as fd:
        size = os.fstat(fd).st_size
        if size > max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"{size} bytes are more than the {max_bytes} allowed")
        while piece := os.read(fd, min(size + 1, _PIECE)):
            hasher.update(piece)
    return hasher.hexdigest()


def read_content(folder: bytes, path: bytes, roots: tuple[Path, ...], max_bytes: int, content_hash: str) -> bytes:
    """Read a file, which must still hash to what it did.

    Raises:
        ImageRejected: as hash_content, and where the file changed in between.
        StorageAway: the folder is gone, too.
    """
    with _open(folder, path, roots) as fd:
        data = _read_all(fd, os.fstat(fd).st_size, max_bytes)
    if blake3(data).hexdigest() != content_hash:
        raise ImageRejected(Reason.READ_FAILED, "the file changed while it was read: submit it again when complete")
    return data


@contextmanager
def _open(folder: bytes, path: bytes, roots: tuple[Path, ...]) -> Iterator[int]:
    resolved = os.path.realpath(os.path.join(folder, path))
    if not is_below(resolved, roots):
        raise ImageRejected(Reason.OUTSIDE_ROOT, "the file lies outside the allowed roots")
    try:
        # Non-blocking: a pipe that took the file's name must not hold the worker.
        fd = os.open(resolved, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.path.isdir(folder):
            raise StorageAway("the submission's folder is gone: is its storage mounted?") from error
        raise _rejection(error) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ImageRejected(Reason.NOT_A_FILE, "no longer a file")
        yield fd
    except OSError as error:
        raise _rejection(error) from error
    finally:
        os.close(fd)


def _read_all(fd: int, size: int, max_bytes: int) -> bytes:
    pieces = []
    total = 0
    while piece := os.read(fd, size + 1 - min(total, size)):
        total += len(piece)
        if total > max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"the file grew beyond the {max_bytes} bytes allowed")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _rejection(error: OSError) -> ImageRejected:
    if isinstance(error, FileNotFoundError):
        return ImageRejected(Reason.VANISHED, "the file was listed, but is gone")
    if isinstance(error, PermissionError):
        return ImageRejected(Reason.PERMISSION_DENIED, "the worker may not read the file")
    if error.errno == errno.ELOOP:
        return ImageRejected(Reason.OUTSIDE_ROOT, "the file became a link while it was opened")
    return ImageRejected(Reason.READ_FAILED, f"reading failed ({error.strerror})")
