"""Sums over all batches there ever were, without reading all of them each time."""

import threading
from typing import Any

from sqlalchemy import ColumnElement, case, func, select
from sqlmodel import Session, col

from core.progress import OUTCOMES
from core.states import OPEN_BATCHES, BatchState
from core.tables import Batch

STAGES = ("read", "decode", "resize", "wait", "copy", "infer", "write")
BUCKETS_S = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# A transaction that began earlier may still commit a batch with a lower id; none is this far behind.
_MARGIN = 1000


class BatchTotals:
    """Keeps the sums of the oldest batches, up to the first that is still open: what is closed never changes.

    So a look reads what came since: a million images a night are 4,000 batches, and a year of them takes seconds.
    Batches that retention deletes stay in the sums of a process that had counted them: counters do not go back.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept = dict.fromkeys(_columns(), 0.0)
        self._kept_up_to = 0

    def read(self, session: Session) -> dict[str, float]:
        """Sum up: "images", "expirations", "classified", "count", "wall", outcomes, stages, and "le_" durations."""
        with self._lock:
            settled = _find_settled(session)
            if settled > self._kept_up_to:
                added = _sum(session, col(Batch.id) > self._kept_up_to, col(Batch.id) <= settled)
                self._kept = {name: value + added[name] for name, value in self._kept.items()}
                self._kept_up_to = settled
            rest = _sum(session, col(Batch.id) > self._kept_up_to)
            return {name: value + rest[name] for name, value in self._kept.items()}


def _find_settled(session: Session) -> int:
    """The highest id up to which every batch is closed, and no other will come."""
    newest = session.execute(select(func.max(col(Batch.id)))).scalar() or 0
    first_open = session.execute(select(func.min(col(Batch.id))).where(col(Batch.state).in_(OPEN_BATCHES))).scalar()
    return min(newest - _MARGIN, newest if first_open is None else first_open - 1)


def _sum(session: Session, *conditions: ColumnElement[bool]) -> dict[str, float]:
    columns = _columns()
    row = session.execute(select(*(column.label(name) for name, column in columns.items())).where(*conditions)).one()
    return {name: float(row._mapping[name] or 0) for name in columns}


def _columns() -> dict[str, ColumnElement[Any]]:
    is_whole = col(Batch.state) != BatchState.SPLIT
    is_done = (col(Batch.state) == BatchState.DONE) & col(Batch.started_at).is_not(None)
    return {
        "images": func.sum(case((is_whole, col(Batch.images)))),
        "expirations": func.sum(col(Batch.expirations)),
        "classified": func.sum(case((is_done, col(Batch.images)))),
        "count": func.count(case((is_done, 1))),
        "wall": func.sum(case((is_done, col(Batch.wall_ms)))),
        **{name: func.sum(case((is_whole, getattr(Batch, name)))) for name in OUTCOMES},
        **{stage: func.sum(case((is_done, getattr(Batch, f"{stage}_ms")))) for stage in STAGES},
        **{
            f"le_{bound_s}": func.count(case((is_done & (col(Batch.wall_ms) <= bound_s * 1e3), 1)))
            for bound_s in BUCKETS_S
        },
    }
