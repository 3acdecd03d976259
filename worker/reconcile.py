"""Find work that was lost between the database, the broker and dead workers, and start it again.

Beat asks for this every few seconds. Every step is safe to repeat and safe beside another reconciler: a step
changes a row only if the row still is as it was found.
"""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import func, insert, or_, update
from sqlmodel import Session, col, select

from core.database import execute_dml
from core.errors import Reason
from core.lanes import CONTROL_QUEUE, Lane
from core.queue import BrokerAway
from core.states import OPEN_BATCHES, BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Submission, utc_now
from core.transitions import cancel_queued_batches
from worker.context import WorkerContext
from worker.dispatch import finish, send_batch

log = structlog.get_logger()

# Rows of each kind that one run looks at; the next run goes on.
_AT_ONCE = 500
# A batch that was committed this recently is probably being sent at this moment.
_JUST_COMMITTED_S = 5
# A message that the broker should hold, but does not: the worker that took it may be about to claim its batch.
_JUST_SENT_S = 15


def reconcile(context: WorkerContext) -> None:
    """Look once for lost work of every kind."""
    for batch_id in _expired_batches(context):
        _recover(context, batch_id)
    depths = _depths(context)
    if depths is None:
        return
    for batch_id, lane in _unsent_batches(context, depths):
        send_batch(context, batch_id, lane)
    for submission_id in _stalled_listings(context, depths):
        context.queue.send_intake(submission_id)
        log.info("intake_sent_again", submission_id=submission_id)
    for submission_id in _complete_submissions(context):
        finish(context, submission_id)


def _depths(context: WorkerContext) -> dict[str, int] | None:
    try:
        return context.queue.depths()
    except BrokerAway:
        log.warning("broker_away")
        return None


def _expired_batches(context: WorkerContext) -> list[int]:
    with context.database.read() as session:
        return [
            batch_id or 0
            for batch_id in session.exec(
                select(Batch.id)
                .where(Batch.state == BatchState.RUNNING, col(Batch.lease_expires_at) < utc_now())
                .limit(_AT_ONCE)
            )
        ]


def _recover(context: WorkerContext, batch_id: int) -> None:
    """Give a dead worker's batch to another, or split it when it took its workers down too often."""
    with context.database.write() as session:
        taken = execute_dml(
            session,
            update(Batch)
            .where(
                col(Batch.id) == batch_id,
                col(Batch.state) == BatchState.RUNNING,
                col(Batch.lease_expires_at) < utc_now(),
            )
            .values(
                state=BatchState.QUEUED,
                expirations=col(Batch.expirations) + 1,
                lease_token=None,
                lease_expires_at=None,
                sent_at=None,
            ),
        )
        batch = session.get(Batch, batch_id) if taken else None
        if batch is None:
            return
        submission = session.get_one(Submission, batch.submission_id)
        log.warning("lease_expired", batch_id=batch_id, attempts=batch.attempts, worker=batch.worker)
        if submission.state == SubmissionState.CANCELLED:
            cancel_queued_batches(session, submission.id)
            return
        to_send = [batch_id]
        if batch.attempts >= context.settings.poison_after:
            to_send = _isolate(session, batch)
    for ready in to_send:
        send_batch(context, ready, Lane(batch.lane))
    finish(context, batch.submission_id)


def _isolate(session: Session, batch: Batch) -> list[int]:
    """Replace a batch by its halves, or record its one image as the one that kills workers; ids to send."""
    pending = [
        item_id or 0
        for item_id in session.exec(
            select(Item.id).where(Item.batch_id == batch.id, Item.state == ItemState.PENDING).order_by(col(Item.id))
        )
    ]
    if len(pending) <= 1:
        _record_killer(session, batch, pending)
        return []
    middle = len(pending) // 2
    halves = [_add_half(session, batch, part) for part in (pending[:middle], pending[middle:])]
    # What was settled when the folder was listed goes with the first half; the old batch keeps nothing.
    execute_dml(session, update(Item).where(col(Item.batch_id) == batch.id).values(batch_id=halves[0]))
    execute_dml(
        session,
        update(Batch)
        .where(col(Batch.id) == halves[0])
        .values(images=col(Batch.images) + batch.failed + batch.skipped, failed=batch.failed, skipped=batch.skipped),
    )
    batch.images = batch.failed = batch.skipped = 0
    batch.state = BatchState.SPLIT
    batch.finished_at = utc_now()
    session.add(batch)
    log.warning("batch_split", batch_id=batch.id, halves=halves)
    return halves


def _add_half(session: Session, batch: Batch, item_ids: list[int]) -> int:
    half = session.execute(
        insert(Batch)
        .values(
            submission_id=batch.submission_id,
            lane=batch.lane,
            state=BatchState.QUEUED,
            images=len(item_ids),
            # One more death splits it again: its images are under suspicion already.
            attempts=max(batch.attempts - 1, 0),
            expirations=0,
            created_at=batch.created_at,
            **dict.fromkeys(("benign", "malignant", "uncertain", "failed", "skipped"), 0),
            **dict.fromkeys(("read_ms", "decode_ms", "infer_ms", "write_ms", "wall_ms"), 0.0),
        )
        .returning(col(Batch.id))
    ).scalar_one()
    execute_dml(session, update(Item).where(col(Item.id).in_(item_ids)).values(batch_id=half))
    return int(half)


def _record_killer(session: Session, batch: Batch, pending: list[int]) -> None:
    execute_dml(
        session,
        update(Item)
        .where(col(Item.id).in_(pending))
        .values(
            state=ItemState.FAILED,
            reason=Reason.KILLS_WORKER,
            detail=f"the worker ended {batch.attempts} times while it had this image in hand",
        ),
    )
    batch.failed += len(pending)
    batch.state = BatchState.DONE
    batch.finished_at = utc_now()
    session.add(batch)
    log.error("image_kills_worker", batch_id=batch.id)


def _unsent_batches(context: WorkerContext, depths: dict[str, int]) -> list[tuple[int, Lane]]:
    """Batches that were committed and never sent, and those whose message the broker has lost."""
    now = utc_now()
    with context.database.read() as session:
        rows = session.exec(
            select(Batch.id, Batch.lane)
            .where(
                Batch.state == BatchState.QUEUED,
                col(Batch.created_at) < now - timedelta(seconds=_JUST_COMMITTED_S),
                or_(
                    col(Batch.sent_at).is_(None),
                    col(Batch.lane).in_(_empty(depths)) & (col(Batch.sent_at) < now - timedelta(seconds=_JUST_SENT_S)),
                ),
            )
            .order_by(col(Batch.id))
            .limit(_AT_ONCE)
        )
        return [(batch_id or 0, Lane(lane)) for batch_id, lane in rows]


def _empty(depths: dict[str, int]) -> list[str]:
    return [lane for lane in Lane if depths.get(lane, 0) == 0]


def _stalled_listings(context: WorkerContext, depths: dict[str, int]) -> list[str]:
    """Submissions that nobody lists: never begun though nothing waits, or begun by a worker that died."""
    if depths.get(CONTROL_QUEUE, 0):
        return []
    now: datetime = utc_now()
    with context.database.read() as session:
        return list(
            session.exec(
                select(Submission.id)
                .where(
                    or_(
                        (col(Submission.state) == SubmissionState.ACCEPTED)
                        & (col(Submission.created_at) < now - timedelta(seconds=_JUST_COMMITTED_S)),
                        (col(Submission.state) == SubmissionState.LISTING) & (col(Submission.lease_expires_at) < now),
                    )
                )
                .limit(_AT_ONCE)
            )
        )


def _complete_submissions(context: WorkerContext) -> list[str]:
    """Submissions whose batches are all closed, but whose last worker died before it could say so."""
    open_batches = (
        select(func.count())
        .select_from(Batch)
        .where(
            col(Batch.submission_id) == col(Submission.id),
            col(Batch.state).in_(OPEN_BATCHES),
        )
        .scalar_subquery()
    )
    with context.database.read() as session:
        return list(
            session.exec(
                select(Submission.id)
                .where(Submission.state == SubmissionState.RUNNING, open_batches == 0)
                .limit(_AT_ONCE)
            )
        )
