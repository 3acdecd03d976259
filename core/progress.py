"""How far submissions are, computed from batch rows.

A million images are 4,000 batches: summing those takes milliseconds where counting images would take a second.
Batches in state split are left out everywhere, because two halves took their place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlmodel import Session, col

from core.states import BatchState
from core.tables import Batch, Item, Submission

OUTCOMES = ("benign", "malignant", "uncertain", "failed", "skipped")
# The rate of a running submission is that of batches which ended this recently.
_RECENT_S = 120
# Below this span a rate says nothing (and clocks of two machines differ).
_SHORTEST_SPAN_S = 0.05


@dataclass(frozen=True)
class Counts:
    """Images by outcome."""

    total: int = 0
    benign: int = 0
    malignant: int = 0
    uncertain: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def pending(self) -> int:
        """Images that have no outcome yet."""
        return self.total - sum(int(getattr(self, outcome)) for outcome in OUTCOMES)


@dataclass(frozen=True)
class Progress:
    """How far one submission is.

    Attributes:
        images_per_s, eta_s: None where nothing was finished (of late), or nothing is left.
    """

    counts: Counts
    failures: dict[str, int]
    images_per_s: float | None
    eta_s: float | None


def is_listed(submission: Submission) -> bool:
    """Whether every image of the submission is known. One that is parked, or was ended, may be listed or not."""
    return submission.listed_at is not None


def count_images(session: Session, submission_ids: Iterable[str]) -> dict[str, Counts]:
    """Count the images of submissions by outcome; those without a batch yet get zeros."""
    ids = list(submission_ids)
    rows = session.execute(
        select(col(Batch.submission_id), *_count_columns())
        .where(col(Batch.submission_id).in_(ids), col(Batch.state) != BatchState.SPLIT)
        .group_by(col(Batch.submission_id))
    )
    found = {row[0]: Counts(*(int(value) for value in row[1:])) for row in rows}
    return {submission_id: found.get(submission_id, Counts()) for submission_id in ids}


def measure_progress(session: Session, submission: Submission, now: datetime) -> Progress:
    """Find out how far a submission is at the moment now."""
    finished = and_(col(Batch.state) == BatchState.DONE, col(Batch.started_at).is_not(None))
    recent = and_(finished, col(Batch.finished_at) >= now - timedelta(seconds=_RECENT_S))
    row = session.execute(
        select(
            *_count_columns(),
            *_span_columns(finished),
            *_span_columns(recent),
        ).where(col(Batch.submission_id) == submission.id, col(Batch.state) != BatchState.SPLIT)
    ).one()
    counts = Counts(*(int(value or 0) for value in row[:6]))
    failures = count_failures(session, submission.id) if counts.failed or counts.skipped else {}
    whole, late = row[6:9], row[9:12]
    if submission.finished_at is not None:
        return Progress(counts, failures, _rate(*whole), None)
    rate = _rate(late[0], late[1], now)
    eta_s = counts.pending / rate if rate and counts.pending and is_listed(submission) else None
    return Progress(counts, failures, rate, eta_s)


def count_failures(session: Session, submission_id: str) -> dict[str, int]:
    """Count the images without a result by reason, most frequent first; reads an index of just these."""
    amount = func.count()
    rows = session.execute(
        select(col(Item.reason), amount)
        .where(col(Item.submission_id) == submission_id, col(Item.reason).is_not(None))
        .group_by(col(Item.reason))
        .order_by(amount.desc(), col(Item.reason))
    )
    return {str(reason): count for reason, count in rows}


def _count_columns() -> Sequence[ColumnElement[int]]:
    return [func.sum(col(getattr(Batch, name))) for name in ("images", *OUTCOMES)]


def _span_columns(condition: ColumnElement[bool]) -> list[ColumnElement[object]]:
    """Images of the batches that meet the condition, when the first started and when the last ended."""
    return [
        func.sum(case((condition, col(Batch.images)), else_=0)),
        func.min(case((condition, col(Batch.started_at)))),
        func.max(case((condition, col(Batch.finished_at)))),
    ]


def _rate(images: int | None, start: datetime | None, end: datetime | None) -> float | None:
    if not images or start is None or end is None:
        return None
    return int(images) / max((end - start).total_seconds(), _SHORTEST_SPAN_S)
