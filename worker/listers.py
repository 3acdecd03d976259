"""Threads that list folders, apart from those that classify: a long listing keeps no one waiting for a worker."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from core.lanes import Lane

# Folders of a lane that one worker lists at once. Listing waits for storage more than it computes.
_THREADS = 2


class Listers:
    """Threads for each lane, so that urgent folders never wait for others."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_hand: set[str] = set()
        self._is_closed = False
        self._threads = {lane: ThreadPoolExecutor(_THREADS, thread_name_prefix=f"list-{lane.value}") for lane in Lane}

    def begin(self, lane: Lane, submission_id: str, work: Callable[[], None]) -> bool:
        """Have a thread do the work soon; False where one has the submission in hand already, or after the close."""
        with self._lock:
            if self._is_closed or submission_id in self._in_hand:
                return False
            self._in_hand.add(submission_id)
            self._threads[lane].submit(self._do, submission_id, work)
        return True

    def close(self) -> None:
        """Wait for the listings in hand; drop those that have not begun."""
        with self._lock:
            self._is_closed = True
        for threads in self._threads.values():
            threads.shutdown(wait=False, cancel_futures=True)
        for threads in self._threads.values():
            threads.shutdown()

    def _do(self, submission_id: str, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            with self._lock:
                self._in_hand.discard(submission_id)
