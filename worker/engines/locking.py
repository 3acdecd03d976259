"""A lock between processes that share a folder; whoever dies frees it."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path, when_waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of this file, made where it is missing and never removed: removing it would let two in.

    Args:
        path: of the lock file.
        when_waiting: called once if another holds the lock.
    """
    with path.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            when_waiting()
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
