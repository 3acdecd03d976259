"""Every move of a state goes through here. The caller owns the transaction."""

import random
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, func, update
from sqlmodel import Session, SQLModel, col, select

from core.archive_tables import Scan
from core.database import execute_dml
from core.errors import IllegalMove, Reason
from core.states import (
    BATCH_MOVES,
    ITEM_MOVES,
    LIVE_SUBMISSIONS,
    OPEN_BATCHES,
    OPEN_SUBMISSIONS,
    SCAN_MOVES,
    SUBMISSION_MOVES,
    BatchState,
    ItemState,
    SubmissionState,
)
from core.tables import Batch, Item, Submission, utc_now

_MOVES: Mapping[type[SQLModel], Mapping[Any, frozenset[Any]]] = {
    Submission: SUBMISSION_MOVES,
    Batch: BATCH_MOVES,
    Item: ITEM_MOVES,
    Scan: SCAN_MOVES,
}
# Waits for storage grow up to this.
_LONGEST_WAIT_S = 600
# No stored retry_at lies further ahead.
LONGEST_WAIT = timedelta(seconds=2 * _LONGEST_WAIT_S)


def move(
    session: Session,
    table: type[Submission] | type[Batch] | type[Item] | type[Scan],
    starts: Collection[StrEnum],
    end: StrEnum,
    *conditions: ColumnElement[bool],
    **values: object,
) -> int:
    """Move the rows that meet the conditions, and are in one of the states starts, to the state end.

    Returns how many moved: a row that another moved first is left alone.

    Raises:
        IllegalMove: core.states knows no such move.
    """
    for start in starts:
        if end not in _MOVES[table][start]:
            raise IllegalMove(f"a {table.__name__.lower()} that is {start} can never become {end}")
    return execute_dml(
        session,
        update(table).where(col(table.state).in_(list(starts)), *conditions).values(state=end, **values),
    )


def cancel_submission(session: Session, submission_id: str) -> bool:
    """End a submission on request: images that no worker has in hand are skipped.

    Batches that are being worked on finish, and their results stay. Returns False where the submission was not
    open any more (or does not exist).
    """
    moved = move(
        session,
        Submission,
        OPEN_SUBMISSIONS,
        SubmissionState.CANCELLED,
        col(Submission.id) == submission_id,
        finished_at=utc_now(),
        reason=None,
        detail=None,
        retry_at=None,
        lease_token=None,
    )
    if moved == 0:
        return False
    cancel_queued_batches(session, submission_id)
    return True


def cancel_queued_batches(session: Session, submission_id: str) -> None:
    """Skip the images of a submission's batches that no worker has in hand."""
    skipped = {"skipped": col(Batch.images) - col(Batch.failed)}
    reason = {"reason": Reason.CANCELLED}
    _settle_queued_batches(
        session,
        submission_id,
        end=BatchState.CANCELLED,
        counters=skipped,
        outcome=ItemState.SKIPPED,
        reason=reason,
    )


def park_submission(
    session: Session, submission_id: str, detail: str, wait_s: float, *, reason: Reason = Reason.STORAGE_AWAY
) -> bool:
    """Put a submission aside because its storage is away; False where it is not open, or parked already.

    Args:
        detail: one sentence for people; holds no path.
        wait_s: until the first new try; each try in a row doubles it, up to ten minutes, give or take a fifth.
        reason: what is away. Only storage is ever given up.
    """
    submission = session.get(Submission, submission_id)
    if submission is None:
        return False
    now = utc_now()
    wait_s = min(wait_s * 2 ** min(submission.tries, 20), _LONGEST_WAIT_S)
    wait_s *= random.uniform(0.8, 1.2)  # noqa: S311 - so that what was parked at once is not tried at once
    return bool(
        move(
            session,
            Submission,
            LIVE_SUBMISSIONS,
            SubmissionState.PARKED,
            col(Submission.id) == submission_id,
            reason=reason,
            detail=detail,
            parked_at=func.coalesce(col(Submission.parked_at), now if reason == Reason.STORAGE_AWAY else None),
            retry_at=now + timedelta(seconds=wait_s),
            tries=col(Submission.tries) + 1,
            lease_token=None,
        )
    )


def park_until(session: Session, submission_id: str, retry_at: datetime, reason: Reason, detail: str) -> bool:
    """Put a submission aside until a time that is known; False where it is not open, or parked already.

    Args:
        retry_at: at most ten minutes ahead; where more is left then, it is parked anew.
    """
    mine = col(Submission.id) == submission_id
    values = {"reason": reason, "detail": detail, "retry_at": retry_at, "lease_token": None}
    return bool(move(session, Submission, LIVE_SUBMISSIONS, SubmissionState.PARKED, mine, **values))


def unpark_submission(session: Session, submission_id: str) -> bool:
    """Try a submission's storage again: its listing, or its batches. False where it is not parked."""
    tries_again = {"reason": None, "detail": None, "retry_at": None}
    mine = col(Submission.id) == submission_id
    is_listed = col(Submission.listed_at).is_not(None)
    parked = [SubmissionState.PARKED]
    return bool(
        move(session, Submission, parked, SubmissionState.RUNNING, mine, is_listed, **tries_again)
        or move(session, Submission, parked, SubmissionState.ACCEPTED, mine, ~is_listed, **tries_again)
    )


def abandon_parked_submission(session: Session, submission_id: str) -> bool:
    """Give storage up that stayed away too long: the images that need it fail. False where it is not parked."""
    detail = "the storage stayed away: submit the folder again when it is back"
    mine = col(Submission.id) == submission_id
    is_listed = col(Submission.listed_at).is_not(None)
    parked = [SubmissionState.PARKED]
    ended = {"reason": Reason.STORAGE_AWAY, "detail": detail, "retry_at": None}
    moved = move(
        session, Submission, parked, SubmissionState.FAILED, mine, ~is_listed, finished_at=utc_now(), **ended
    ) or move(session, Submission, parked, SubmissionState.RUNNING, mine, is_listed, **ended)
    if not moved:
        return False
    failed = {"failed": col(Batch.images) - col(Batch.skipped)}
    reason = {"reason": Reason.STORAGE_AWAY, "detail": detail}
    _settle_queued_batches(
        session,
        submission_id,
        end=BatchState.DONE,
        counters=failed,
        outcome=ItemState.FAILED,
        reason=reason,
    )
    return True


def finish_submission(session: Session, submission_id: str) -> bool:
    """Close a submission whose images all have an outcome; False where it is not (or no longer) ready for that.

    Call it in a transaction of its own after the one that closed a batch: inside that one, two workers that close
    the last two batches would each see the other's still open, and neither would finish the submission.
    """
    open_batches = (
        select(func.count())
        .select_from(Batch)
        .where(col(Batch.submission_id) == submission_id, col(Batch.state).in_(OPEN_BATCHES))
    )
    if session.exec(open_batches).one():
        return False
    moved = move(
        session,
        Submission,
        [SubmissionState.RUNNING],
        SubmissionState.DONE,
        col(Submission.id) == submission_id,
        finished_at=utc_now(),
    )
    return bool(moved)


def _settle_queued_batches(
    session: Session,
    submission_id: str,
    *,
    end: BatchState,
    counters: Mapping[str, object],
    outcome: ItemState,
    reason: Mapping[str, object],
) -> None:
    """Give the images that no worker has in hand an outcome, all the same."""
    mine = col(Batch.submission_id) == submission_id
    # Batches first: a worker that claims one at this moment keeps it, images and all.
    if not move(session, Batch, [BatchState.QUEUED], end, mine, finished_at=utc_now(), **counters):
        return
    settled = select(Batch.id).where(mine, col(Batch.state) == end)
    conditions = (col(Item.submission_id) == submission_id, col(Item.batch_id).in_(settled))
    move(session, Item, [ItemState.PENDING], outcome, *conditions, **reason)
