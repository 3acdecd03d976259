"""Find work that was lost between the database and the broker, or that waits for its time, and start it.

Beat asks for this every few seconds. Every step is safe to repeat and safe beside another reconciler: a step
changes a row only if the row still is as it was found. Dead workers are worker.pulse's business.
"""

from datetime import timedelta

import structlog
from sqlalchemy import func, or_, update
from sqlmodel import col, select

from core.database import execute_dml
from core.errors import Reason
from core.lanes import CONTROL_QUEUE, Lane
from core.queue import BrokerAway
from core.states import OPEN_BATCHES, SubmissionState
from core.tables import Batch, Submission, has_come, utc_now
from core.transitions import LONGEST_WAIT, abandon_parked_submission, unpark_submission
from worker.context import WorkerContext
from worker.definitions import read_definitions
from worker.dispatch import finish, is_sent, top_up
from worker.retention import purge_expired
from worker.scanning.closing import close_ended_scans
from worker.schedules import begin_due_scans, keep_windows
from worker.webhooks import deliver_due

log = structlog.get_logger()

# Rows of each kind that one run looks at; the next run goes on.
_AT_ONCE = 500
# What was committed this recently is probably being sent at this moment.
_JUST_COMMITTED = timedelta(seconds=5)
# A message that the broker should hold, but does not: the worker that took it may be about to claim its batch.
_JUST_SENT = timedelta(seconds=15)
# Nothing is sent or committed in the future, but clocks differ by a little.
_AGREEMENT = timedelta(seconds=5)
# Messages in the control queue above which no more are added: nobody works them off at present.
_CONTROL_BACKLOG = 50


def reconcile(context: WorkerContext) -> None:
    """Look once for lost work of every kind."""
    read_definitions(context)
    begin_due_scans(context)
    for submission_id in _parked_and_due(context):
        _try_again(context, submission_id)
    keep_windows(context)
    for submission_id in _complete_submissions(context):
        finish(context, submission_id)
    close_ended_scans(context)
    deliver_due(context)
    purge_expired(context)
    try:
        depths = context.queue.depths()
    except BrokerAway:
        log.warning("broker_away")
        return
    for lane in Lane:
        _forget_lost_messages(context, lane, depths[lane])
        top_up(context, lane)
    if depths[CONTROL_QUEUE] < _CONTROL_BACKLOG:
        _send_listings(context)


def _parked_and_due(context: WorkerContext) -> list[str]:
    with context.database.read() as session:
        return list(
            session.exec(
                select(Submission.id)
                .where(
                    Submission.state == SubmissionState.PARKED,
                    # What waits for a window is taken up by whoever knows the windows.
                    col(Submission.reason).is_distinct_from(Reason.OUTSIDE_WINDOW),
                    has_come(col(Submission.retry_at), LONGEST_WAIT),
                )
                .limit(_AT_ONCE)
            )
        )


def _try_again(context: WorkerContext, submission_id: str) -> None:
    """Have a parked submission tried again, or give it up when its storage stayed away too long."""
    too_long = timedelta(seconds=context.settings.storage_give_up_s)
    with context.database.write() as session:
        submission = session.get_one(Submission, submission_id)
        parked_at = None if submission.reason == Reason.MODEL_AWAY else submission.parked_at
        if parked_at is not None and parked_at < utc_now() - too_long:
            abandon_parked_submission(session, submission_id)
            log.error("storage_given_up", submission_id=submission_id)
        elif unpark_submission(session, submission_id):
            log.info("submission_unparked", submission_id=submission_id)


def _forget_lost_messages(context: WorkerContext, lane: Lane, at_broker: int) -> None:
    """Have batches wait for another turn where fewer messages wait at the broker than were sent.

    Which of them are lost is not known, and need not be: a message that comes twice finds nothing to do.
    """
    is_late = (
        is_sent(),
        col(Batch.lane) == lane,
        has_come(col(Batch.sent_at), _AGREEMENT, ago=_JUST_SENT),
    )
    with context.database.write() as session:
        late = session.exec(select(func.count()).select_from(Batch).where(*is_late)).one()
        if late > at_broker:
            execute_dml(session, update(Batch).where(*is_late).values(sent_at=None))
            log.warning("messages_lost", lane=lane.value, sent=late, at_broker=at_broker)


def _send_listings(context: WorkerContext) -> None:
    """Ask for the listing of submissions that nobody lists: never begun, or begun by a worker that ended."""
    with context.database.read() as session:
        waiting = list(
            session.exec(
                select(Submission.id)
                .where(
                    Submission.state == SubmissionState.ACCEPTED,
                    has_come(col(Submission.created_at), _AGREEMENT, ago=_JUST_COMMITTED),
                    or_(col(Submission.retry_at).is_(None), has_come(col(Submission.retry_at), LONGEST_WAIT)),
                )
                .order_by(col(Submission.id))
                .limit(_CONTROL_BACKLOG)
            )
        )
    for submission_id in waiting:
        try:
            context.queue.send_intake(submission_id)
        except BrokerAway:
            log.warning("broker_away")
            return
        log.info("intake_sent_again", submission_id=submission_id)


def _complete_submissions(context: WorkerContext) -> list[str]:
    """Submissions whose batches are all closed, but whose last worker died before it could say so."""
    open_batches = (
        select(func.count())
        .select_from(Batch)
        .where(col(Batch.submission_id) == col(Submission.id), col(Batch.state).in_(OPEN_BATCHES))
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
