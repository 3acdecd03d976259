"""The steps of retention: each a small transaction that may be repeated, beside others that do the same."""

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, bindparam, delete, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, exists, select

from core.archive_tables import Archive, ArchiveFile, ArchiveFolder, Delivery, Scan
from core.audit import record
from core.database import Database, execute_dml
from core.index_walk import walk
from core.reviews import forget_notes, forget_reviews
from core.states import BatchState, ScanState
from core.tables import Batch, Item, Result, Submission, utc_now

# Rows of one transaction.
_AT_ONCE = 2000
_NAMELESS = {"mtime_ns": 0, "patient": None, "slide": None, "magnification": None}
# Seconds that a purge waits, on PostgreSQL, until no batch is being claimed or closed; later ones queue behind it.
_LOCK_TIMEOUT = "2s"
_LOCK_NOT_AVAILABLE = "55P03"


def delete_submission(database: Database, submission_id: str, who: str, on_images: Callable[[int], bool]) -> bool:
    """Delete an ended submission with its images, batches, scan and notes of reviews, and note who did.

    Args:
        on_images: called with the number of images after each step; says whether to stop.

    Returns False where it was stopped, or another deletes it.
    """
    while ids := _take_items(database, submission_id, 0, _delete_items):
        if on_images(len(ids)):
            return False
    with database.write() as session:
        if ids is None or not _lock(session, submission_id):
            return False
        forget_notes(session, submission_id)
        scans = select(Scan.id).where(col(Scan.submission_id) == submission_id)
        session.execute(delete(Delivery).where(col(Delivery.scan_id).in_(scans)))
        for table, key in ((Scan, Scan.submission_id), (Batch, Batch.submission_id), (Submission, Submission.id)):
            session.execute(delete(table).where(col(key) == submission_id))
        record(session, who, "submission.delete", submission_id)
    return True


def anonymise_submission(database: Database, submission_id: str, who: str, on_images: Callable[[int], bool]) -> bool:
    """Take the names of files and folders, patients, slides and notes from an ended submission, and note who did.

    Names become random, so that nobody can compute them again; results and content hashes stay.

    Returns False where it was stopped, or another does the same.
    """
    last = 0
    while ids := _take_items(database, submission_id, last, _anonymise_items):
        last = ids[-1]
        if on_images(len(ids)):
            return False
    with database.write() as session:
        if ids is None or not _lock(session, submission_id):
            return False
        forget_notes(session, submission_id)
        nameless = {"folder": "", "idempotency_key": None, "request_hash": "", "anonymised_at": utc_now()}
        session.execute(update(Submission).where(col(Submission.id) == submission_id).values(**nameless))
        session.execute(update(Scan).where(col(Scan.submission_id) == submission_id).values(position=None))
        record(session, who, "submission.anonymise", submission_id)
    return True


def forget_deleted_files(database: Database, before: datetime, should_stop: Callable[[], bool]) -> int:
    """Forget the names of files that are gone from their archives since before a moment; returns how many.

    An archive that is scanned at this moment is left to the next purge: its scan has rows in hand.
    """
    with database.read() as session:
        archives = session.exec(select(Archive.id)).all()
    forgotten = 0
    for archive_id in archives:
        of_this = 0
        while not should_stop() and (number := _forget_some(database, archive_id, before)):
            of_this += number
        if of_this:
            _forget_empty_folders(database, archive_id)
        forgotten += of_this
    return forgotten


def delete_unused_results(database: Database, should_stop: Callable[[], bool]) -> int:
    """Delete results that no image points to, with their reviews; returns how many.

    Only while no worker has a batch in hand: one may have looked a result up and be about to point an image at it. What
    is left is deleted by the next purge.
    """
    deleted, last = 0, 0
    while not should_stop():
        with database.read() as session:
            some = select(col(Result.id)).where(col(Result.id) > last).order_by(col(Result.id)).limit(_AT_ONCE)
            ids = [result_id or 0 for result_id in session.scalars(some)]
            unused = session.scalars(select(col(Result.id)).where(col(Result.id).in_(ids), _is_unused())).all()
        if not ids:
            break
        last = ids[-1]
        if unused:
            number = _delete_results(database, unused)
            if number is None:
                break
            deleted += number
    return deleted


def _delete_results(database: Database, ids: Sequence[int | None]) -> int | None:
    """Delete those of the results that are unused still; None where workers have batches in hand."""
    try:
        with database.write() as session:
            if not _nothing_runs(session):
                return None
            number = execute_dml(session, delete(Result).where(col(Result.id).in_(ids), _is_unused()))
            forget_reviews(session, ids)
            return number
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            return None
        raise


def _take_items(
    database: Database, submission_id: str, after: int, work: Callable[[Session, Sequence[int]], None]
) -> Sequence[int] | None:
    """Do work on the next images of a submission; returns their ids, or None where another is at it."""
    with database.write() as session:
        if not _lock(session, submission_id):
            return None
        mine = [(col(Item.submission_id), submission_id)]
        ids = session.scalars(walk(select(col(Item.id)), mine, col(Item.id), above=after).limit(_AT_ONCE)).all()
        if ids:
            # No scan takes a file for new because what was recorded of it is gone or has no name any more.
            session.execute(update(ArchiveFile).where(col(ArchiveFile.item_id).in_(ids)).values(item_id=None))
            work(session, ids)
    return ids


def _lock(session: Session, submission_id: str) -> bool:
    """Keep others off the submission; False where it is gone or another has it."""
    query = select(Submission.id).where(Submission.id == submission_id).with_for_update(skip_locked=True)
    return session.exec(query).one_or_none() is not None


def _delete_items(session: Session, ids: Sequence[int]) -> None:
    session.execute(delete(Item).where(col(Item.id).in_(ids)))


def _anonymise_items(session: Session, ids: Sequence[int]) -> None:
    renamed = [{"this": item_id, "token": f"anonymous-{secrets.token_hex(16)}"} for item_id in ids]
    table = Item.__table__  # type: ignore[attr-defined]
    statement = update(table).where(table.c.id == bindparam("this")).values(path=bindparam("token"), **_NAMELESS)
    session.connection().execute(statement, renamed)


def _forget_some(database: Database, archive_id: str, before: datetime) -> int:
    is_gone = (col(ArchiveFile.archive_id) == archive_id, col(ArchiveFile.deleted_at) < before)
    some = select(col(ArchiveFile.id)).where(*is_gone).limit(_AT_ONCE)
    with database.write() as session:
        if not _lock_idle_archive(session, archive_id):
            return 0
        return execute_dml(session, delete(ArchiveFile).where(col(ArchiveFile.id).in_(some)))


def _forget_empty_folders(database: Database, archive_id: str) -> None:
    """Forget the folders that hold neither files nor folders; then their parents."""
    inner = aliased(ArchiveFolder)
    statement = delete(ArchiveFolder).where(
        col(ArchiveFolder.archive_id) == archive_id,
        col(ArchiveFolder.parent_id).is_not(None),
        ~exists().where(col(ArchiveFile.folder_id) == col(ArchiveFolder.id)),
        ~exists().where(col(inner.parent_id) == col(ArchiveFolder.id)),
    )
    with database.write() as session:
        if _lock_idle_archive(session, archive_id):
            while execute_dml(session, statement):
                pass


def _lock_idle_archive(session: Session, archive_id: str) -> bool:
    """Keep scans of an archive from beginning until the transaction's end; False while one runs."""
    # On PostgreSQL a new scan's row waits for the lock of the row that it refers to; SQLite's writers are alone anyway.
    locked = select(Archive.id).where(Archive.id == archive_id).with_for_update()
    is_scanned = select(Scan.id).where(Scan.archive_id == archive_id, Scan.state == ScanState.RUNNING)
    return session.exec(locked).one_or_none() is not None and session.exec(is_scanned).first() is None


def _is_unused() -> ColumnElement[bool]:
    return ~exists().where(col(Item.result_id) == col(Result.id))


def _nothing_runs(session: Session) -> bool:
    """Whether no worker has a batch in hand, and none takes one before this transaction ends."""
    if session.get_bind().dialect.name == "postgresql":
        # SQLite's writers are alone anyway. Waiting for this lock, we would hold up whoever claims next.
        session.execute(text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
        session.execute(text("LOCK TABLE batch IN SHARE MODE"))
    return session.exec(select(Batch.id).where(Batch.state == BatchState.RUNNING).limit(1)).first() is None
