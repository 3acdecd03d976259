"""What files held when they were last read, so that a second start reads none that has not changed."""

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

# A file that changed this short a time ago may change again within the clock's step and keep its stamp (git calls
# such files racy): it is read again next time.
_SETTLED_NS = 2 * 10**9


class StampIndex:
    """The sha256 of each file of one source under its stamp: size, times and number.

    Reading 7,909 images to hash them takes seconds from memory and a minute from a slow disk; asking for their
    stamps takes a tenth of a second. The index only ever saves reading: it lies beside the entries and can be lost.
    """

    def __init__(self, cache: Path, source: Path) -> None:
        """Read the index of a source; a missing or damaged one is empty."""
        name = hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:32]
        self._path = cache / f"index-{name}.json"
        self._hashes: dict[str, str] = {}
        with suppress(OSError, ValueError):
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if isinstance(content, dict):
                self._hashes = {str(stamped): str(sha256) for stamped, sha256 in content.items()}

    def find(self, path: Path, stamp: str) -> str | None:
        """Return the sha256 that a file had under this stamp."""
        return self._hashes.get(_stamped(path, stamp))

    def replace(self, hashes: Mapping[tuple[Path, str], str]) -> None:
        """Remember these files, by path and stamp, and no others; written in one step."""
        now = time.time_ns()
        settled = {
            _stamped(path, stamp): sha256
            for (path, stamp), sha256 in hashes.items()
            if stamp and sha256 and _settled(stamp, now)
        }
        if settled == self._hashes:
            return
        handle, temporary = tempfile.mkstemp(prefix=f".{self._path.name}-", dir=self._path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                json.dump(settled, stream)
            os.replace(temporary, self._path)
        except OSError:
            Path(temporary).unlink(missing_ok=True)
            raise
        self._hashes = settled


def _stamped(path: Path, stamp: str) -> str:
    return f"{stamp} {os.fsencode(path).hex() if not str(path).isprintable() else path}"


def _settled(stamp: str, now_ns: int) -> bool:
    changed_ns = max(int(part) for part in stamp.split("-")[1:3])
    return now_ns - changed_ns > _SETTLED_NS
