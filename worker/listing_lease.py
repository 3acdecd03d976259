"""The lease of a submission that is listed: keep it, let go of it, or end what it is for."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TypeVar

import structlog
from sqlalchemy import update
from sqlmodel import Session, col

from core.database import execute_dml
from core.errors import Reason
from core.lanes import Lane
from core.pressure import Level, Pressure
from core.queue import BrokerAway
from core.states import SubmissionState
from core.tables import Submission, utc_now
from core.transitions import cancel_queued_batches, move, park_submission
from worker.context import WorkerContext

log = structlog.get_logger()
T = TypeVar("T")

# Between two batches of files while room gets scarce.
_SLOW_S = 1.0
# Until listing is tried again where there is no room.
_NO_ROOM_S = 30


class ListingEnded(Exception):
    """This worker lists the submission no longer; its state says what becomes of it."""


def hold(session: Session, submission: Submission, end: SubmissionState | None = None, **values: object) -> None:
    """Change the submission if it is still this worker's to list.

    Raises:
        ListingEnded: it is not.
    """
    mine = (col(Submission.id) == submission.id, col(Submission.lease_token) == submission.lease_token)
    if end is not None:
        held = move(session, Submission, [SubmissionState.LISTING], end, *mine, **values)
    else:
        is_listed = col(Submission.state) == SubmissionState.LISTING
        beat = update(Submission).where(*mine, is_listed).values(heartbeats=col(Submission.heartbeats) + 1, **values)
        held = execute_dml(session, beat)
    if not held:
        raise ListingEnded


def wait_for_room(context: WorkerContext, submission: Submission) -> None:
    """Slow down where the disk or the queues fill up.

    Raises:
        ListingEnded: there is no room, and the listing was put off.
    """
    pressure = context.gauge.pressure(context.database, context.settings)
    level = pressure.disk if submission.lane == Lane.URGENT else pressure.level
    if level == Level.STOPPED:
        put_off(context, submission, pressure)
        raise ListingEnded
    if level == Level.SLOW:
        time.sleep(_SLOW_S)


def hand_on_when_stopped(context: WorkerContext, submission: Submission) -> None:
    """Let another worker go on where this one must end.

    Raises:
        ListingEnded: it must.
    """
    if context.stop.is_asked:
        put_off(context, submission)
        raise ListingEnded


def put_off(context: WorkerContext, submission: Submission, pressure: Pressure | None = None) -> None:
    """Let someone go on later: another worker at once where this one must end, or anyone when there is room."""
    values: dict[str, object] = {}
    if pressure is not None:
        retry_at = utc_now() + timedelta(seconds=_NO_ROOM_S)
        values = {"reason": pressure.reason, "detail": pressure.detail, "retry_at": retry_at}
    with context.database.write() as session:
        hold(session, submission, SubmissionState.ACCEPTED, lease_token=None, **values)
    if pressure is None:
        try:
            context.queue.send_intake(submission.id)
        except BrokerAway:
            log.warning("intake_not_sent", submission_id=submission.id)
    else:
        log.warning("intake_stopped", submission_id=submission.id, why=pressure.reason)


def let_go(context: WorkerContext, submission: Submission) -> None:
    """Put a listing off that another thread is at; one that is not this worker's any more is let go already."""
    with suppress(ListingEnded):
        put_off(context, submission)


def park(context: WorkerContext, submission: Submission, why: str) -> None:
    """Put a submission aside because its storage is away, if it is still this worker's to list."""
    with context.database.write() as session:
        owner = session.get_one(Submission, submission.id)
        if owner.lease_token != submission.lease_token:
            return
        park_submission(session, submission.id, why, context.settings.storage_retry_s)
    log.warning("submission_parked", submission_id=submission.id)


def fail(context: WorkerContext, submission: Submission, reason: Reason, detail: str) -> None:
    """End a submission that cannot be listed, if it is still this worker's to list."""
    try:
        with context.database.write() as session:
            ended = {"reason": reason, "detail": detail, "finished_at": utc_now(), "lease_token": None}
            hold(session, submission, SubmissionState.FAILED, **ended)
            # A listing that goes on after an interruption may have cut batches before.
            cancel_queued_batches(session, submission.id)
    except ListingEnded:
        log.info("listing_ended", submission_id=submission.id)
        return
    log.warning("submission_failed", submission_id=submission.id, reason=reason.value)


def insist(context: WorkerContext, work: Callable[[], T]) -> T:
    """Do one transaction's work again and again while the database is away, as long as settings say."""
    return context.database.insist(work, context.settings.database_patience_s)
