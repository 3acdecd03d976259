"""What becomes of a batch whose worker died: another takes it, or it is split until the one bad image stands alone."""

import structlog
from sqlalchemy import insert, update
from sqlmodel import Session, col, select

from core.database import execute_dml
from core.errors import Reason
from core.lanes import Lane
from core.states import OPEN_SUBMISSIONS, BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Submission, utc_now
from core.transitions import move
from worker.batches import cancel_if_ended
from worker.context import WorkerContext
from worker.dispatch import finish

log = structlog.get_logger()


def expire_batch(context: WorkerContext, token: str, heartbeats: int | None = None) -> Lane | None:
    """Take a batch from a worker that died with it in hand.

    Returns the lane that has turns to give now; None where nothing was done, because the lease is not as it was seen.

    Args:
        heartbeats: the last that was heard; None where the worker itself says that its attempt failed.
    """
    with context.database.write() as session:
        query = select(Batch).where(Batch.lease_token == token, Batch.state == BatchState.RUNNING)
        batch = session.exec(query.with_for_update()).one_or_none()
        if batch is None or batch.id is None or heartbeats not in (None, batch.heartbeats):
            return None
        log.warning("lease_expired", batch_id=batch.id, attempts=batch.attempts, worker=batch.worker)
        _decide(session, batch, batch.id, context.settings.poison_after)
    finish(context, batch.submission_id)
    return Lane(batch.lane)


def expire_listing(context: WorkerContext, token: str, heartbeats: int) -> None:
    """Take a listing from a worker that died with it in hand; another goes on where it stopped."""
    with context.database.write() as session:
        submission = session.exec(select(Submission).where(Submission.lease_token == token)).one_or_none()
        if submission is None:
            return
        taken = move(
            session,
            Submission,
            [SubmissionState.LISTING],
            SubmissionState.ACCEPTED,
            col(Submission.lease_token) == token,
            col(Submission.heartbeats) == heartbeats,
            lease_token=None,
        )
    if taken:
        log.warning("listing_expired", submission_id=submission.id)


def _decide(session: Session, batch: Batch, batch_id: int, poison_after: int) -> None:
    mine = col(Batch.id) == batch_id
    running = [BatchState.RUNNING]
    counted = {"expirations": col(Batch.expirations) + 1, "lease_token": None}
    pending = list(
        session.exec(
            select(Item.id).where(Item.batch_id == batch_id, Item.state == ItemState.PENDING).order_by(col(Item.id))
        )
    )
    # Locked as in cancel_if_ended: who cancels at this moment does not see the halves.
    submission = session.get_one(Submission, batch.submission_id, with_for_update={"read": True})
    if batch.attempts < poison_after or submission.state not in OPEN_SUBMISSIONS:
        move(session, Batch, running, BatchState.QUEUED, mine, suspect=True, sent_at=None, **counted)
        cancel_if_ended(session, batch.submission_id)
    elif len(pending) > 1:
        halves = _split(session, batch, [item_id or 0 for item_id in pending], poison_after)
        nothing = {"images": 0, "failed": 0, "skipped": 0}
        move(session, Batch, running, BatchState.SPLIT, mine, finished_at=utc_now(), **nothing, **counted)
        log.warning("batch_split", batch_id=batch_id, halves=halves)
    else:
        _record_killer(session, batch)
        failed = col(Batch.failed) + len(pending)
        move(session, Batch, running, BatchState.DONE, mine, finished_at=utc_now(), failed=failed, **counted)
        log.error("image_kills_worker", batch_id=batch_id)


def _split(session: Session, batch: Batch, pending: list[int], poison_after: int) -> list[int]:
    """Put two halves in the place of a batch."""
    middle = len(pending) // 2
    halves = [_add_half(session, batch, part, poison_after) for part in (pending[:middle], pending[middle:])]
    # What was settled when the folder was listed goes with the first half; the old batch keeps nothing.
    execute_dml(session, update(Item).where(col(Item.batch_id) == batch.id).values(batch_id=halves[0]))
    execute_dml(
        session,
        update(Batch)
        .where(col(Batch.id) == halves[0])
        .values(images=col(Batch.images) + batch.failed + batch.skipped, failed=batch.failed, skipped=batch.skipped),
    )
    return halves


def _add_half(session: Session, batch: Batch, item_ids: list[int], poison_after: int) -> int:
    half = session.execute(
        insert(Batch)
        .values(
            submission_id=batch.submission_id,
            lane=batch.lane,
            state=BatchState.QUEUED,
            images=len(item_ids),
            # One more death splits a half again. But an image that stands alone is condemned for its own deaths only.
            attempts=poison_after - 1 if len(item_ids) > 1 else 0,
            expirations=0,
            suspect=True,
            heartbeats=0,
            created_at=batch.created_at,
            **dict.fromkeys(("benign", "malignant", "uncertain", "failed", "skipped"), 0),
            **dict.fromkeys(("read_ms", "decode_ms", "infer_ms", "write_ms", "wall_ms"), 0.0),
        )
        .returning(col(Batch.id))
    ).scalar_one()
    execute_dml(session, update(Item).where(col(Item.id).in_(item_ids)).values(batch_id=half))
    return int(half)


def _record_killer(session: Session, batch: Batch) -> None:
    move(
        session,
        Item,
        [ItemState.PENDING],
        ItemState.FAILED,
        col(Item.batch_id) == batch.id,
        reason=Reason.KILLS_WORKER,
        detail=f"the worker ended {batch.attempts} times while it had this image in hand",
    )
