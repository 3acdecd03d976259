"""What a file's name says of it, wherever the file lies: is it meant to be an image?"""

from core.errors import Reason
from core.states import ItemState
from core.storage.protocol import Entry

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


def judge_name(name: bytes, path: str) -> Entry | None:
    """Skip what is no image on purpose; None for all others.

    Args:
        name: the last part of the path.
    """
    lower = name.lower()
    if lower.startswith(b".") or lower in _SYSTEM_NAMES:
        return skipped(path, Reason.SYSTEM_FILE, "left by an operating system or a program")
    if lower.endswith(_SIDECAR_SUFFIXES):
        return skipped(path, Reason.SIDECAR_FILE, "a document beside the images")
    return None


def failed(path: str, reason: Reason, detail: str) -> Entry:
    """Make the entry of a file that should be an image and cannot be looked at."""
    return Entry(path, state=ItemState.FAILED, reason=reason, detail=detail)


def skipped(path: str, reason: Reason, detail: str) -> Entry:
    """Make the entry of what was not meant to be classified."""
    return Entry(path, state=ItemState.SKIPPED, reason=reason, detail=detail)
