"""Turns at what few may do at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from api.problems import ApiError, ProblemReason


@contextmanager
def take_turn(turns: threading.Semaphore, wait_s: float, busy: str, retry_after_s: int) -> Iterator[None]:
    """Take one of the few turns, and give it back.

    Args:
        wait_s: how long to wait for one; 0 for not at all.
        busy, retry_after_s: what is said where all are taken, and when to ask again.

    Raises:
        ApiError: all are taken, for as long as is waited (503).
    """
    if not turns.acquire(timeout=wait_s):
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, ProblemReason.TOO_BUSY, busy, retry_after_s=retry_after_s)
    try:
        yield
    finally:
        turns.release()
