"""Record a submission's files as items, cut them into batches, and send each batch once it is committed."""

import os
from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from uuid import uuid4

import structlog
from sqlalchemy import insert, or_, update
from sqlmodel import Session, col, select

from core.database import execute_dml
from core.errors import FolderError, Reason
from core.lanes import Lane
from core.paths import resolve_folder, text_to_path
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Item, Submission, utc_now
from core.transitions import cancel_queued_batches
from worker.context import WorkerContext
from worker.dispatch import finish, send_batch
from worker.listing import Entry, list_folder

log = structlog.get_logger()


class _Ended(Exception):
    """The submission is not this worker's to list any more, or not for now."""


def take_in(context: WorkerContext, submission_id: str) -> None:
    """List a submission's folder if that is still to do; continues where a dead worker stopped."""
    submission = _claim(context, submission_id)
    if submission is None:
        log.info("submission_not_claimed", submission_id=submission_id)
        return
    try:
        total = _record_all(context, submission)
    except FolderError as error:
        _fail(context, submission, error.reason, error.detail)
        return
    except _Ended:
        log.info("listing_ended", submission_id=submission_id)
        return
    log.info("submission_listed", submission_id=submission_id, files=total)
    finish(context, submission_id)


def _claim(context: WorkerContext, submission_id: str) -> Submission | None:
    now = utc_now()
    with context.database.write() as session:
        claimed = execute_dml(
            session,
            update(Submission)
            .where(
                col(Submission.id) == submission_id,
                or_(
                    col(Submission.state) == SubmissionState.ACCEPTED,
                    (col(Submission.state) == SubmissionState.LISTING) & (col(Submission.lease_expires_at) < now),
                ),
            )
            .values(
                state=SubmissionState.LISTING,
                lease_token=uuid4().hex,
                lease_expires_at=now + timedelta(seconds=context.settings.lease_s),
            ),
        )
        return session.get(Submission, submission_id) if claimed else None


def _record_all(context: WorkerContext, submission: Submission) -> int:
    entries = _list(context, submission)
    size = context.settings.batch_size
    total = 0
    while chunk := list(islice(entries, size)):
        total += len(chunk)
        _record(context, submission, chunk)
        if context.stop.is_overdue:
            _hand_back(context, submission)
    if total == 0:
        raise FolderError(Reason.FOLDER_EMPTY, "the folder holds no files")
    with context.database.write() as session:
        _hold(session, submission, state=SubmissionState.RUNNING, lease_token=None, lease_expires_at=None)
    return total


def _list(context: WorkerContext, submission: Submission) -> Iterator[Entry]:
    folder = text_to_path(submission.folder)
    if submission.source != "upload":
        # Checked again: the API's machine may have other roots, and links may have moved since.
        resolve_folder(os.fsdecode(folder), context.settings.roots)
    return list_folder(folder, context.settings.roots_of(submission.source))


def _record(context: WorkerContext, submission: Submission, entries: list[Entry]) -> None:
    """Commit one batch with its items, then send its id."""
    expires = utc_now() + timedelta(seconds=context.settings.lease_s)
    with context.database.write() as session:
        _hold(session, submission, lease_expires_at=expires)
        entries = _without_known(session, submission, entries)
        if not entries:
            return
        batch = _add_batch(session, submission, entries)
        session.execute(insert(Item), [_item_row(submission, batch, entry) for entry in entries])
    if batch.state == BatchState.QUEUED and batch.id is not None:
        send_batch(context, batch.id, Lane(batch.lane))


def _hand_back(context: WorkerContext, submission: Submission) -> None:
    """Let another worker go on where this one must end: the reconciler finds the lease run out."""
    with context.database.write() as session:
        _hold(session, submission, lease_expires_at=utc_now())
    raise _Ended


def _without_known(session: Session, submission: Submission, entries: list[Entry]) -> list[Entry]:
    """Drop files that were recorded before this listing was interrupted."""
    paths = [entry.path for entry in entries]
    known = set(session.exec(select(Item.path).where(Item.submission_id == submission.id, col(Item.path).in_(paths))))
    return [entry for entry in entries if entry.path not in known]


def _add_batch(session: Session, submission: Submission, entries: list[Entry]) -> Batch:
    failed = sum(entry.state == ItemState.FAILED for entry in entries)
    skipped = sum(entry.state == ItemState.SKIPPED for entry in entries)
    is_done = failed + skipped == len(entries)
    batch = Batch(
        submission_id=submission.id,
        lane=submission.lane,
        images=len(entries),
        failed=failed,
        skipped=skipped,
        state=BatchState.DONE if is_done else BatchState.QUEUED,
        finished_at=utc_now() if is_done else None,
    )
    session.add(batch)
    session.flush()
    return batch


def _item_row(submission: Submission, batch: Batch, entry: Entry) -> dict[str, object]:
    return {
        "submission_id": submission.id,
        "batch_id": batch.id,
        "path": entry.path,
        "size": entry.size,
        "mtime_ns": entry.mtime_ns,
        "state": entry.state,
        "reason": entry.reason,
        "detail": entry.detail,
    }


def _hold(session: Session, submission: Submission, **values: object) -> None:
    """Change the submission if it is still this worker's to list, else raise _Ended."""
    held = execute_dml(
        session,
        update(Submission)
        .where(
            col(Submission.id) == submission.id,
            col(Submission.lease_token) == submission.lease_token,
            col(Submission.state) == SubmissionState.LISTING,
        )
        .values(**values),
    )
    if not held:
        raise _Ended


def _fail(context: WorkerContext, submission: Submission, reason: Reason, detail: str) -> None:
    try:
        with context.database.write() as session:
            _hold(
                session,
                submission,
                state=SubmissionState.FAILED,
                reason=reason,
                detail=detail,
                finished_at=utc_now(),
                lease_token=None,
                lease_expires_at=None,
            )
            # A listing that goes on after an interruption may have cut batches before.
            cancel_queued_batches(session, submission.id)
    except _Ended:
        log.info("listing_ended", submission_id=submission.id)
        return
    log.warning("submission_failed", submission_id=submission.id, reason=reason.value)
