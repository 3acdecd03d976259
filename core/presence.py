"""Which workers there are, and what each of them serves, as they say themselves."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import delete
from sqlmodel import Session, col, select

from core.database import execute_dml
from core.serving_tables import WorkerPresence
from core.tables import utc_now

# Workers say that they are there every few seconds; a database that is busy may hold them up for half a minute.
_AWAY_AFTER = timedelta(minutes=1)
_FORGET_AFTER = timedelta(days=1)


class WorkerState(StrEnum):
    """What a worker does about the active model."""

    SERVING = "serving"
    """Its engine is the active model's."""
    LOADING = "loading"
    """It loads the active model, and begins no batch meanwhile."""
    WAITING = "waiting"
    """It cannot load the active model, begins no batch, and tries again."""
    STOPPING = "stopping"
    """It finishes what it has in hand."""
    AWAY = "away"
    """It was not heard for a minute, and did not say that it ends."""


@dataclass(frozen=True, kw_only=True)
class PresentWorker:
    """A worker as it was heard last; see WorkerPresence for its fields."""

    name: str
    state: WorkerState
    detail: str | None
    engine: str
    model_version: str
    wanted: str | None
    started_at: datetime
    seen_at: datetime

    @property
    def is_serving(self) -> bool:
        """Whether it classifies."""
        return self.state is WorkerState.SERVING


def read_workers(session: Session) -> list[PresentWorker]:
    """Read every worker of the last day, by name; who ended in order is not among them."""
    now = utc_now()
    rows = session.exec(
        select(WorkerPresence)
        .where(col(WorkerPresence.seen_at) > now - _FORGET_AFTER)
        .order_by(col(WorkerPresence.name))
    )
    return [_describe(row, now) for row in rows]


def note_presence(session: Session, row: WorkerPresence) -> None:
    """Record that a worker is there, in the place of what it said before."""
    session.merge(row)


def forget_worker(session: Session, name: str) -> None:
    """Take away the row of a worker that ends."""
    execute_dml(session, delete(WorkerPresence).where(col(WorkerPresence.name) == name))


def forget_silent_workers(session: Session) -> int:
    """Take away the rows of workers that were not heard for a day; how many."""
    silent = col(WorkerPresence.seen_at) < utc_now() - _FORGET_AFTER
    return execute_dml(session, delete(WorkerPresence).where(silent))


def _describe(row: WorkerPresence, now: datetime) -> PresentWorker:
    state = WorkerState(row.state)
    return PresentWorker(
        name=row.name,
        state=WorkerState.AWAY if row.seen_at < now - _AWAY_AFTER else state,
        detail=row.detail,
        engine=row.engine,
        model_version=row.model_version,
        wanted=row.wanted,
        started_at=row.started_at,
        seen_at=row.seen_at,
    )
