"""Say in the database that this worker is there, and what it serves."""

import threading
import time

import structlog
from sqlalchemy.exc import SQLAlchemyError

from core.presence import WorkerState, forget_silent_workers, forget_worker, note_presence
from core.serving_tables import WorkerPresence
from core.tables import utc_now
from worker.context import WorkerContext
from worker.rounds import Rounds

log = structlog.get_logger()

# Between two looks for what workers that died a day ago left behind.
_SWEEP_EVERY_S = 3600.0


class Presence:
    """What this worker said of itself last. Safe to use from several threads."""

    def __init__(self, context: WorkerContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._said: tuple[object, ...] | None = None
        self._said_at = float("-inf")
        self._sweeps = Rounds()
        self._is_over = False

    def say(self) -> None:
        """Say it where something changed, or a lease's time after the last time: one small write."""
        with self._lock:
            row = self._describe()
            said = (row.state, row.detail, row.engine, row.model_version, row.wanted)
            is_due = time.monotonic() - self._said_at >= self._context.settings.lease_s
            if self._is_over or not (is_due or said != self._said):
                return
            with self._context.database.write() as session:
                note_presence(session, row)
                if self._sweeps.begin(after_s=_SWEEP_EVERY_S):
                    forget_silent_workers(session)
            self._said, self._said_at = said, time.monotonic()

    def end(self) -> None:
        """Take the row away. Where the database is away, this worker counts as away a minute later."""
        with self._lock:
            self._is_over = True
            try:
                with self._context.database.write() as session:
                    forget_worker(session, self._context.name)
            except SQLAlchemyError as error:
                log.warning("database_away", error=type(error).__name__)

    def _describe(self) -> WorkerPresence:
        slot = self._context.slot
        serving, wanted = slot.current, slot.wanted
        return WorkerPresence(
            name=self._context.name,
            started_at=self._context.started_at,
            seen_at=utc_now(),
            state=WorkerState.STOPPING if self._context.stop.is_asked else slot.state,
            detail=slot.trouble,
            engine=serving.engine.name if serving else "",
            model_version=serving.model_version if serving else "",
            wanted=wanted.model_version if wanted else None,
        )
