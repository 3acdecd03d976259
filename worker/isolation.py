"""Let a batch that may have killed a worker run alone, so that no innocent one dies, and is suspected, beside it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Isolation:
    """A lock that many may hold together, or one alone. Who wants to be alone goes before those who come later."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._is_alone = False
        self._waiting_to_be_alone = 0

    @contextmanager
    def enter(self, *, alone: bool) -> Iterator[None]:
        """Wait until this may run, and hold it during the block."""
        with self._changed:
            if alone:
                self._waiting_to_be_alone += 1
                self._changed.wait_for(lambda: not self._is_alone and self._together == 0)
                self._waiting_to_be_alone -= 1
                self._is_alone = True
            else:
                self._changed.wait_for(lambda: not self._is_alone and self._waiting_to_be_alone == 0)
                self._together += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._is_alone = False
                else:
                    self._together -= 1
                self._changed.notify_all()
