"""Image files: which are any, how large they may be, and how to tell that one has changed."""

import stat
from pathlib import Path

from trainer.dataset.names import IMAGE_SUFFIXES
from trainer.errors import DatasetError

# An image of BreakHis has half a megabyte.
MAX_IMAGE_BYTES = 64 * 2**20


def file_stamp(path: Path) -> str:
    """Return size, times and number of a file; "" where there is none.

    The time of the last change of its record (ctime) is in it because tools such as cp -p set the other one at will.
    """
    try:
        found = path.stat()
    except OSError:
        return ""
    return (
        f"{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}-{found.st_ino}" if stat.S_ISREG(found.st_mode) else ""
    )


def is_image(path: Path) -> bool:
    """Tell whether a file is named like an image; resource files of macOS are none."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("._") and "__MACOSX" not in path.parts


def within_limit(data: bytes) -> bytes:
    """Return the bytes of an image; DatasetError where they are too many."""
    if len(data) > MAX_IMAGE_BYTES:
        raise DatasetError(f"larger than {MAX_IMAGE_BYTES >> 20} MiB")
    return data
