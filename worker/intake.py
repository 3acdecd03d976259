"""Record a submission's files as items, cut them into batches, and send the first of them."""

from collections.abc import Callable, Iterator
from itertools import islice
from uuid import uuid4

import structlog
from sqlalchemy import insert, or_
from sqlmodel import Session, col, select

from core.errors import FolderError, LeaseLost, Reason, StorageAway
from core.labels import Labeller, open_labeller
from core.lanes import Lane
from core.states import SubmissionState
from core.storage.opening import open_storage
from core.storage.protocol import Entry, Storage
from core.storage.walking import walk
from core.tables import Item, Submission, has_come, utc_now
from core.transitions import LONGEST_WAIT, move
from worker.context import WorkerContext
from worker.dispatch import finish, top_up
from worker.holdings import Holding
from worker.listing_lease import (
    ListingEnded,
    fail,
    hand_on_when_stopped,
    hold,
    insist,
    let_go,
    park,
    wait_for_room,
)
from worker.recording import add_batch, item_row
from worker.scanning.closing import close_ended_scan
from worker.scanning.scan import scan_archive

log = structlog.get_logger()

# Beside the images of a folder that is submitted.
_MANIFEST = "manifest.csv"


def begin_listing(context: WorkerContext, submission_id: str, guard: Callable[[Callable[[], None]], None]) -> None:
    """Have a thread list a submission's folder soon.

    Args:
        guard: runs the work and deals with what it raises.
    """
    with context.database.read() as session:
        lane = session.exec(select(Submission.lane).where(Submission.id == submission_id)).one_or_none()
    if lane is not None and not context.stop.is_asked:
        context.listers.begin(Lane(lane), submission_id, lambda: guard(lambda: take_in(context, submission_id)))


def take_in(context: WorkerContext, submission_id: str) -> None:
    """List a submission's folder if that is still to do; continues where another worker stopped."""
    submission = insist(context, lambda: _claim(context, submission_id))
    if submission is None or submission.lease_token is None:
        log.info("submission_not_claimed", submission_id=submission_id)
        return
    record = scan_archive if submission.source == "archive" else _record_all
    with context.holdings.hold(_holding(context, submission, submission.lease_token)) as holding:
        try:
            total = record(context, submission, holding)
        except FolderError as error:
            fail(context, submission, error.reason, error.detail)
            close_ended_scan(context, submission_id)
            return
        except StorageAway as error:
            park(context, submission, str(error))
            return
        except (ListingEnded, LeaseLost):
            log.info("listing_ended", submission_id=submission_id)
            return
    log.info("submission_listed", submission_id=submission_id, files=total)
    finish(context, submission_id)


def _holding(context: WorkerContext, submission: Submission, token: str) -> Holding:
    return Holding(
        kind="submission",
        id=submission.id,
        token=token,
        hand_back=lambda: let_go(context, submission),
        park=lambda why: park(context, submission, why),
        blame=lambda: let_go(context, submission),
    )


def _claim(context: WorkerContext, submission_id: str) -> Submission | None:
    with context.database.write() as session:
        claimed = move(
            session,
            Submission,
            [SubmissionState.ACCEPTED],
            SubmissionState.LISTING,
            col(Submission.id) == submission_id,
            or_(col(Submission.retry_at).is_(None), has_come(col(Submission.retry_at), LONGEST_WAIT)),
            reason=None,
            detail=None,
            retry_at=None,
            lease_token=uuid4().hex,
            heartbeats=0,
        )
        return session.get(Submission, submission_id) if claimed else None


def _record_all(context: WorkerContext, submission: Submission, holding: Holding) -> int:
    storage = open_storage(submission.folder, context.settings, submission.source)
    with holding.waiting_for_storage():
        labeller = open_labeller(storage, context.settings.name_pattern, _MANIFEST)
    total = 0
    for chunk in _chunks(context, storage, holding):
        wait_for_room(context, submission)
        total += len(chunk)
        insist(context, lambda chunk=chunk: _record(context, submission, chunk, labeller))  # type: ignore[misc]
        top_up(context, Lane(submission.lane))
        holding.progress()
        hand_on_when_stopped(context, submission)
    if total == 0:
        _refuse_empty(context, submission)
    with context.database.write() as session:
        hold(session, submission, SubmissionState.RUNNING, lease_token=None, listed_at=utc_now())
    return total


def _chunks(context: WorkerContext, storage: Storage, holding: Holding) -> Iterator[list[Entry]]:
    entries = walk(storage)
    while True:
        with holding.waiting_for_storage():
            chunk = list(islice(entries, context.settings.batch_size))
        if not chunk:
            return
        yield chunk


def _refuse_empty(context: WorkerContext, submission: Submission) -> None:
    with context.database.read() as session:
        was_full = session.exec(select(Item.id).where(Item.submission_id == submission.id).limit(1)).one_or_none()
    if was_full is not None:
        raise StorageAway("the folder held files and shows none: is its storage mounted?")
    raise FolderError(Reason.FOLDER_EMPTY, "the folder holds no files")


def _record(context: WorkerContext, submission: Submission, entries: list[Entry], labeller: Labeller) -> None:
    """Commit one batch with its items."""
    with context.database.write() as session:
        hold(session, submission)
        entries = _without_known(session, submission, entries)
        if not entries:
            return
        batch = add_batch(session, submission, entries)
        session.execute(insert(Item), [item_row(batch, entry, labeller.of(entry.path)) for entry in entries])


def _without_known(session: Session, submission: Submission, entries: list[Entry]) -> list[Entry]:
    """Drop files that were recorded before this listing was interrupted."""
    paths = [entry.path for entry in entries]
    known = set(session.exec(select(Item.path).where(Item.submission_id == submission.id, col(Item.path).in_(paths))))
    return [entry for entry in entries if entry.path not in known]
