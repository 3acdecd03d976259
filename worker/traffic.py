"""What comes from the broker, so that a worker notices when nothing does although it should."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Traffic:
    """Counts the messages in work, and remembers the last arrival. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_work = 0
        self._last_at = time.monotonic()

    @contextmanager
    def message(self) -> Iterator[None]:
        """Surround the work of one message."""
        with self._lock:
            self._in_work += 1
            self._last_at = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                self._in_work -= 1
                self._last_at = time.monotonic()

    @property
    def in_work(self) -> int:
        """Messages that are being worked on."""
        with self._lock:
            return self._in_work

    @property
    def silent_s(self) -> float:
        """Seconds since a message came or its work ended."""
        with self._lock:
            return time.monotonic() - self._last_at
