"""Recording a submission: exactly once for each idempotency key, whoever else sends the same at the same moment."""

import hashlib
import json
from dataclasses import dataclass
from http import HTTPStatus

import structlog
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from api.problems import ApiError, ProblemReason
from core.audit import record
from core.database import Database
from core.queue import BrokerAway, WorkQueue
from core.tables import Submission

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Admission:
    """A recorded submission.

    Attributes:
        is_new: False where the same request had been made before with the same key.
    """

    submission: Submission
    is_new: bool


def hash_request(**fields: str) -> str:
    """Hash what was asked for; the same request has the same hash."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def find_replayed(database: Database, key: str | None, request_hash: str) -> Submission | None:
    """Find the submission that the same request made before.

    Raises:
        ApiError: the key was used for another request.
    """
    if key is None:
        return None
    with database.read() as session:
        return _find(session, key, request_hash)


def admit(database: Database, submission: Submission) -> Admission:
    """Record a submission and who asked for it, or find what the same request recorded before.

    Raises:
        ApiError: the idempotency key was used for another request.
    """
    try:
        with database.write() as session:
            earlier = _find(session, submission.idempotency_key, submission.request_hash)
            if earlier is not None:
                return Admission(earlier, is_new=False)
            session.add(submission)
            record(session, submission.submitter, "submission.create", submission.id)
    except IntegrityError:
        # PostgreSQL lets two look at once and find nothing; the unique key then refuses the second.
        earlier = find_replayed(database, submission.idempotency_key, submission.request_hash)
        if earlier is None:
            raise
        return Admission(earlier, is_new=False)
    log.info("submission_accepted", submission_id=submission.id, lane=submission.lane, source=submission.source)
    return Admission(submission, is_new=True)


def announce(queue: WorkQueue, submission_id: str) -> None:
    """Tell the workers of a recorded submission. A broker that is away is no error: the reconciler tells them."""
    try:
        queue.send_intake(submission_id)
    except BrokerAway:
        log.warning("intake_not_sent", submission_id=submission_id)


def _find(session: Session, key: str | None, request_hash: str) -> Submission | None:
    if key is None:
        return None
    earlier = session.exec(select(Submission).where(col(Submission.idempotency_key) == key)).one_or_none()
    if earlier is not None and earlier.request_hash != request_hash:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ProblemReason.IDEMPOTENCY_CONFLICT,
            "this Idempotency-Key was used for another request: make a new key for each new request",
        )
    return earlier
