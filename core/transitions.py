"""Moves of submissions and batches that more than one program makes. The caller owns the transaction."""

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from core.database import execute_dml
from core.errors import Reason
from core.states import OPEN_BATCHES, OPEN_SUBMISSIONS, BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Submission, utc_now


def cancel_submission(session: Session, submission_id: str) -> bool:
    """End a submission on request: images that no worker has in hand are skipped.

    Batches that are being worked on finish, and their results stay. Returns False where the submission was not
    open any more (or does not exist).
    """
    moved = execute_dml(
        session,
        update(Submission)
        .where(col(Submission.id) == submission_id, col(Submission.state).in_(OPEN_SUBMISSIONS))
        .values(state=SubmissionState.CANCELLED, finished_at=utc_now(), lease_token=None, lease_expires_at=None),
    )
    if moved == 0:
        return False
    cancel_queued_batches(session, submission_id)
    return True


def cancel_queued_batches(session: Session, submission_id: str) -> None:
    """Skip the images of a submission's batches that no worker has in hand."""
    # Batches first: a worker that claims one at this moment keeps it, images and all.
    cancelled = execute_dml(
        session,
        update(Batch)
        .where(col(Batch.submission_id) == submission_id, col(Batch.state) == BatchState.QUEUED)
        .values(
            state=BatchState.CANCELLED,
            finished_at=utc_now(),
            skipped=col(Batch.images) - col(Batch.failed),
        ),
    )
    if cancelled:
        execute_dml(
            session,
            update(Item)
            .where(
                col(Item.submission_id) == submission_id,
                col(Item.state) == ItemState.PENDING,
                col(Item.batch_id).in_(
                    select(Batch.id).where(
                        col(Batch.submission_id) == submission_id, col(Batch.state) == BatchState.CANCELLED
                    )
                ),
            )
            .values(state=ItemState.SKIPPED, reason=Reason.CANCELLED),
        )


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
    moved = execute_dml(
        session,
        update(Submission)
        .where(col(Submission.id) == submission_id, col(Submission.state) == SubmissionState.RUNNING)
        .values(state=SubmissionState.DONE, finished_at=utc_now()),
    )
    return bool(moved)
