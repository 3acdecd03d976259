"""Files in memory that storage code reads as if they were open."""

import io
from itertools import count

_NUMBERS = count()


class Bytes:
    """A container, or a manifest, in memory."""

    mtime_ns = 1
    is_near = True

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self.identity = (Bytes, next(_NUMBERS))
        self._data = data
        self._stream = io.BytesIO(data)

    def read_at(self, offset: int, number: int) -> bytes:
        """Return up to number bytes from a place."""
        assert offset >= 0
        assert number >= 0
        return self._data[offset : offset + number]

    def read(self, number: int) -> bytes:
        """Return the next bytes."""
        return self._stream.read(number)
