"""The two steps that follow a commit: send what it made ready, finish what it completed."""

import structlog
from sqlalchemy import update
from sqlmodel import col

from core.database import execute_dml
from core.lanes import Lane
from core.queue import BrokerAway
from core.tables import Batch, utc_now
from core.transitions import finish_submission
from worker.context import WorkerContext

log = structlog.get_logger()


def send_batch(context: WorkerContext, batch_id: int, lane: Lane) -> None:
    """Send a committed batch's id, and note that it was sent. A crash in between sends it once more: harmless."""
    try:
        context.queue.send_classify(batch_id, lane)
    except BrokerAway:
        log.warning("batch_not_sent", batch_id=batch_id)
        return
    with context.database.write() as session:
        execute_dml(session, update(Batch).where(col(Batch.id) == batch_id).values(sent_at=utc_now()))


def finish(context: WorkerContext, submission_id: str) -> None:
    """Close a submission if every image of it has an outcome."""
    with context.database.write() as session:
        finished = finish_submission(session, submission_id)
    if finished:
        log.info("submission_done", submission_id=submission_id)
