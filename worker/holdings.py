"""What this process has in hand: batches and listings under a lease."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from core.errors import LeaseLost

Kind = Literal["batch", "submission"]


@dataclass(kw_only=True)
class Holding:
    """One lease.

    Attributes:
        token: the lease's.
        hand_back: lets another have it; it is not at fault.
        park: puts its submission aside, with a sentence why; its storage is at fault.
        blame: lets go of it as if this process had died of it.
        waits_for_storage: whether the work waits for an answer of the storage at this moment.
        progress_at: when something of it was done last, on time.monotonic's clock.
        is_lost: the lease was taken away.
    """

    kind: Kind
    id: int | str
    token: str
    hand_back: Callable[[], object]
    park: Callable[[str], object]
    blame: Callable[[], object]
    waits_for_storage: bool = False
    progress_at: float = field(default_factory=time.monotonic)
    is_lost: bool = False

    def progress(self) -> None:
        """Say that something was done.

        Raises:
            LeaseLost: another decides over it now.
        """
        self.progress_at = time.monotonic()
        if self.is_lost:
            raise LeaseLost(f"{self.kind} {self.id} is not this worker's any more")

    @contextmanager
    def waiting_for_storage(self) -> Iterator[None]:
        """Mark the time in which nothing but the storage can be at fault for a standstill."""
        self.waits_for_storage = True
        try:
            yield
        finally:
            self.waits_for_storage = False
            self.progress_at = time.monotonic()


class Holdings:
    """All leases of this process. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[str, Holding] = {}

    @contextmanager
    def hold(self, holding: Holding) -> Iterator[Holding]:
        """Keep a lease alive during the block."""
        with self._lock:
            self._held[holding.token] = holding
        try:
            yield holding
        finally:
            with self._lock:
                del self._held[holding.token]

    def all(self) -> list[Holding]:
        """Every lease at this moment."""
        with self._lock:
            return list(self._held.values())
