"""Ends a worker process that is of no use any more, so that whoever supervises it starts a fresh one.

Threads cannot be killed, and a lost connection cannot always be seen: a new process is the one sure cure.
"""

import os
import signal
import time
from collections.abc import Callable

import psutil
import structlog
from sqlalchemy.exc import SQLAlchemyError

from worker.context import WorkerContext
from worker.holdings import Holding

log = structlog.get_logger()

# Exit status of a process that wants to be started again: 75.
EXIT_RESTART = os.EX_TEMPFAIL


class Watchdog:
    """Knows when to end the process, and leaves nothing in its hands."""

    def __init__(self, context: WorkerContext, end: Callable[[int], object] = os._exit) -> None:
        """Watch over a worker.

        Args:
            end: ends the process at once, with a status.
        """
        self._context = context
        self._end = end
        self._deaf_since: float | None = None
        self._is_too_large = False

    def look_at_progress(self) -> None:
        """End the process when a batch or a listing stands still."""
        now = time.monotonic()
        for holding in self._context.holdings.all():
            if now - holding.progress_at > self._context.settings.stuck_after_s:
                fields = {"kind": holding.kind, "id": holding.id, "storage": holding.waits_for_storage}
                self.end_process("worker_stuck", guilty=holding, **fields)

    def look_at_traffic(self, waiting: int | None) -> None:
        """End the process when messages wait, a thread is free, and yet nothing arrives.

        Seen with brokers that went away and came back: the worker is connected and never hears of work again.

        Args:
            waiting: messages at the broker; None where it does not answer.
        """
        traffic, settings = self._context.traffic, self._context.settings
        is_free = traffic.in_work < settings.worker_concurrency
        if not waiting or not is_free or traffic.silent_s < settings.deaf_after_s or self._context.stop.is_asked:
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = time.monotonic()
        elif time.monotonic() - self._deaf_since > settings.lease_s:
            self.end_process("worker_deaf", waiting=waiting)

    def look_at_memory(self) -> None:
        """Ask the process to end, gently, when it has grown too large: what is in hand is finished first."""
        limit = self._context.settings.worker_memory_bytes
        if limit and not self._is_too_large and (size := _resident_bytes()) > limit:
            self._is_too_large = True
            log.error("worker_too_large", resident_mb=size // 2**20)
            os.kill(os.getpid(), signal.SIGTERM)

    def end_process(self, event: str, guilty: Holding | None = None, **fields: object) -> None:
        """Let go of all that is in hand, and end the process."""
        log.critical(event, **fields)
        for holding in self._context.holdings.all():
            try:
                self._let_go(holding, is_guilty=holding is guilty)
            except SQLAlchemyError as error:
                # Then its lease is taken from this silent process.
                log.warning("database_away", error=type(error).__name__)
        self._end(EXIT_RESTART)

    def _let_go(self, holding: Holding, *, is_guilty: bool) -> None:
        if not is_guilty:
            holding.hand_back()
        elif holding.waits_for_storage:
            holding.park("the storage of the folder does not answer: nothing came for minutes")
        else:
            holding.blame()


def _resident_bytes() -> int:
    """Of this process and its children; pages that they share count in each."""
    process = psutil.Process()
    total = int(process.memory_info().rss)
    for child in process.children(recursive=True):
        try:
            total += int(child.memory_info().rss)
        except psutil.NoSuchProcess:
            continue
    return total
