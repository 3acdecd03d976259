"""When this process last looked for lost work."""

import threading
import time


class Rounds:
    """Lets a look happen when the last one is long enough ago. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last_at = float("-inf")

    def begin(self, after_s: float) -> bool:
        """Whether the last look began at least after_s seconds ago; if so, another begins now."""
        with self._lock:
            if time.monotonic() - self._last_at < after_s:
                return False
            self._last_at = time.monotonic()
            return True
