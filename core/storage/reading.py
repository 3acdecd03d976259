"""Read one file of a storage and hash its content."""

from dataclasses import dataclass

from blake3 import blake3

from core.errors import ImageRejected, Reason
from core.storage.protocol import Reader, Storage

_PIECE = 2**20
# Contents that are kept because their storage is far: what one batch has under way (64 files) stays below 256 MiB.
_KEPT_BYTES = 4 * 2**20


@dataclass(frozen=True)
class Content:
    """What was read of a file.

    Attributes:
        data: all bytes, where reading them again would cost much and they are few; else None.
    """

    content_hash: str
    data: bytes | None = None


@dataclass(frozen=True)
class Expected:
    """What a file was when it was listed."""

    size: int
    mtime_ns: int


def hash_content(storage: Storage, path: str, max_bytes: int, expected: Expected | None = None) -> Content:
    """Hash a file piece by piece: BLAKE3 of all bytes, hex digits.

    Args:
        expected: what the file must still be, or None where nobody minds.

    Raises:
        ImageRejected: the file is gone, unreadable, too large, changed since it was listed or lies outside the roots.
        StorageAway: the file is not at fault.
    """
    hasher = blake3()
    with storage.open(path) as file:
        if expected and (file.size, file.mtime_ns) != (expected.size, expected.mtime_ns):
            raise ImageRejected(Reason.STILL_CHANGING, "the file changed since it was listed: the next scan takes it")
        _check_size(file, max_bytes)
        is_kept = not file.is_near and file.size <= _KEPT_BYTES
        kept = []
        while piece := file.read(min(file.size + 1, _PIECE)):
            hasher.update(piece)
            if is_kept:
                kept.append(piece)
    return Content(hasher.hexdigest(), b"".join(kept) if is_kept else None)


def read_content(storage: Storage, path: str, max_bytes: int, content_hash: str) -> bytes:
    """Read a file, which must still hash to what it did.

    Raises:
        ImageRejected: as hash_content, and where the file changed in between.
        StorageAway: the file is not at fault.
    """
    with storage.open(path) as file:
        data = _read_all(file, max_bytes)
    if blake3(data).hexdigest() != content_hash:
        raise ImageRejected(Reason.READ_FAILED, "the file changed while it was read: submit it again when complete")
    return data


def _check_size(file: Reader, max_bytes: int) -> None:
    if file.size > max_bytes:
        raise ImageRejected(Reason.TOO_MANY_BYTES, f"{file.size} bytes are more than the {max_bytes} allowed")


def _read_all(file: Reader, max_bytes: int) -> bytes:
    pieces = []
    total = 0
    while piece := file.read(file.size + 1 - min(total, file.size)):
        total += len(piece)
        if total > max_bytes:
            raise ImageRejected(Reason.TOO_MANY_BYTES, f"the file grew beyond the {max_bytes} bytes allowed")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
