"""Deleting, or taking the names from, what is older than it may be kept: which submissions, and in which order.

All in small transactions, so that nobody waits for them; each step may be repeated, so an interruption loses nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import ColumnElement, func
from sqlmodel import Session, col, exists, select

from core.archive_tables import Scan
from core.audit import record
from core.database import Database
from core.errors import PermanentError
from core.forgetting import anonymise_submission, delete_submission, delete_unused_results, forget_deleted_files
from core.states import OPEN_SUBMISSIONS, BatchState, ScanState
from core.tables import Batch, Submission

# Submissions that one look finds; a purge looks again until there are none.
_AT_ONCE = 500


class Action(StrEnum):
    """What is done to what is too old."""

    DELETE = "delete"  # submissions, images and results go
    ANONYMISE = "anonymise"  # names, patients and slides go; images and results stay


@dataclass(frozen=True)
class Expired:
    """Which submissions are meant; only such as have ended, and whose scan has, too.

    Attributes:
        action: what is to be done; what is anonymised already is not anonymised again.
        before: those that ended before this moment.
        submission_id: this one, whenever it ended.
    """

    action: Action
    before: datetime | None = None
    submission_id: str | None = None


@dataclass
class Purge:
    """What a purge has done so far."""

    submissions: int = 0
    images: int = 0
    results: int = 0
    names: int = 0

    def __str__(self) -> str:
        counts = (f"{self.submissions} submissions", f"{self.images} images", f"{self.results} results")
        return ", ".join((*counts, f"{self.names} names of deleted files"))


class NotEnded(PermanentError):
    """The submission is not there, or not at its end."""

    def __init__(self) -> None:
        super().__init__("there is no such submission that has ended: cancel it first, or wait for its end")


def measure_expired(session: Session, expired: Expired) -> Purge:
    """Count what a purge would take.

    Raises:
        NotEnded: one submission was named, and has not ended.
    """
    ids = select(col(Submission.id)).where(*_is_expired(expired))
    submissions = session.exec(select(func.count()).select_from(Submission).where(*_is_expired(expired))).one()
    if expired.submission_id is not None and not submissions:
        raise NotEnded
    images = session.exec(
        select(func.sum(col(Batch.images))).where(col(Batch.submission_id).in_(ids), Batch.state != BatchState.SPLIT)
    ).one()
    return Purge(submissions=submissions, images=int(images or 0))


def purge(
    database: Database,
    expired: Expired,
    who: str,
    *,
    on_images: Callable[[int], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Purge:
    """Do it, and note in the audit what was done to whom.

    Files of uploads are the caller's business (core.uploads).

    Args:
        on_images: called with the number of images of each step.
        should_stop: asked between steps; what is left is taken by the next purge.
    """
    done = Purge()

    def count(images: int) -> bool:
        done.images += images
        on_images(images)
        return should_stop()

    last = ""
    while not should_stop() and (ids := _find(database, expired, after=last)):
        for submission_id in ids:
            if should_stop():
                break
            work = delete_submission if expired.action == Action.DELETE else anonymise_submission
            done.submissions += work(database, submission_id, who, count)
            last = submission_id
    if expired.before is not None and not should_stop():
        done.names = forget_deleted_files(database, expired.before, should_stop)
    if done.submissions and expired.action == Action.DELETE and not should_stop():
        done.results = delete_unused_results(database, should_stop)
    if done.submissions or done.names:
        with database.write() as session:
            record(session, who, f"retention.{expired.action}", str(done))
    return done


def _find(database: Database, expired: Expired, after: str) -> Sequence[str]:
    query = select(Submission.id).where(*_is_expired(expired), col(Submission.id) > after)
    with database.read() as session:
        return session.exec(query.order_by(col(Submission.id)).limit(_AT_ONCE)).all()


def _is_expired(expired: Expired) -> list[ColumnElement[bool]]:
    is_scanned = exists().where(col(Scan.submission_id) == col(Submission.id), col(Scan.state) == ScanState.RUNNING)
    conditions = [col(Submission.state).not_in(OPEN_SUBMISSIONS), ~is_scanned]
    if expired.action == Action.ANONYMISE:
        conditions.append(col(Submission.anonymised_at).is_(None))
    if expired.submission_id is not None:
        conditions.append(col(Submission.id) == expired.submission_id)
    if expired.before is not None:
        conditions.append(func.coalesce(col(Submission.finished_at), col(Submission.created_at)) < expired.before)
    return conditions
