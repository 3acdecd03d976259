"""Begin a scan of an archive, and end it with its submission. The caller owns the transaction."""

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from core.archive_tables import Archive, ArchiveFile, Delivery, Scan
from core.archives import ArchiveBusy, running_scan
from core.contents import Contents
from core.database import execute_dml
from core.errors import Reason
from core.states import ItemState, ScanState, SubmissionState
from core.tables import Item, Submission, utc_now
from core.transitions import move

# Who asks for the scans that begin by themselves. What people ask for does not wait for the window.
BY_SCHEDULE = "schedule"
# Why an image has no result, and may have one tomorrow although its file stays as it is.
_MAY_PASS = (
    Reason.VANISHED,
    Reason.PERMISSION_DENIED,
    Reason.READ_FAILED,
    Reason.STILL_CHANGING,
    Reason.STORAGE_AWAY,
    Reason.CANCELLED,
)
_ENDS = {
    SubmissionState.DONE: ScanState.DONE,
    SubmissionState.FAILED: ScanState.FAILED,
    SubmissionState.CANCELLED: ScanState.CANCELLED,
}
# A file's size in archive_file where the next scan shall take it for changed.
TAKE_AGAIN = -1


def begin_scan(session: Session, archive: Archive, asked_by: str, *, accepts_missing: bool = False) -> Scan:
    """Record a scan and its submission. A unique index decides where two begin one at once.

    Args:
        asked_by: BY_SCHEDULE, or who asked.
        accepts_missing: missing files count as deleted, however many they are.

    Raises:
        ArchiveBusy: a scan of the archive runs.
    """
    if running := running_scan(session, archive.id):
        raise ArchiveBusy(running.id)
    try:
        with session.begin_nested():
            return _add(session, archive, asked_by, accepts_missing)
    except IntegrityError as error:
        if running := running_scan(session, archive.id):
            raise ArchiveBusy(running.id) from error
        raise


def close_scan(session: Session, scan: Scan, contents: Contents) -> bool:
    """End a scan whose submission has ended; False where it has not, or another ended the scan.

    What an ended scan found missing counts as deleted only where it looked through the whole archive.

    Args:
        contents: counted before, because that takes long in a large archive, and needs no lock.
    """
    submission = session.get_one(Submission, scan.submission_id)
    end = _ENDS.get(SubmissionState(submission.state))
    if end is None:
        return False
    values: dict[str, object] = {"finished_at": utc_now(), "moved": contents.moved, "duplicates": contents.duplicates}
    if end == ScanState.FAILED:
        values |= {"reason": submission.reason, "detail": submission.detail}
    is_whole = end == ScanState.DONE
    if not is_whole:
        values |= {"deleted": 0, "moved": 0}
    if not move(session, Scan, [ScanState.RUNNING], end, col(Scan.id) == scan.id, **values):
        return False
    if not is_whole:
        revoke_deletions(session, scan.id)
    _take_again(session, scan.submission_id)
    archive = session.get_one(Archive, scan.archive_id)
    if archive.webhook_url:
        session.add(Delivery(scan_id=scan.id, url=archive.webhook_url))
    return True


def revoke_deletions(session: Session, scan_id: str) -> None:
    """Have the files that a scan found missing count as there."""
    execute_dml(
        session,
        update(ArchiveFile).where(col(ArchiveFile.deleted_by) == scan_id).values(deleted_at=None, deleted_by=None),
    )


def _add(session: Session, archive: Archive, asked_by: str, accepts_missing: bool) -> Scan:
    submission = Submission(
        source="archive",
        folder=archive.root,
        lane=archive.lane,
        submitter=f"schedule:{archive.name}" if asked_by == BY_SCHEDULE else asked_by,
        model=archive.model,
    )
    session.add(submission)
    session.flush()
    scan = Scan(
        archive_id=archive.id,
        submission_id=submission.id,
        previous_id=_last_done(session, archive.id),
        asked_by=asked_by,
        accepts_missing=accepts_missing,
    )
    session.add(scan)
    session.flush()
    return scan


def _last_done(session: Session, archive_id: str) -> str | None:
    done = (col(Scan.archive_id) == archive_id, col(Scan.state) == ScanState.DONE)
    return session.exec(select(Scan.id).where(*done).order_by(col(Scan.id).desc()).limit(1)).one_or_none()


def _take_again(session: Session, submission_id: str) -> None:
    """Have the next scan take what failed for a reason that may pass."""
    passing = select(Item.id).where(
        Item.submission_id == submission_id,
        col(Item.state).in_((ItemState.FAILED, ItemState.SKIPPED)),
        col(Item.reason).in_(_MAY_PASS),
    )
    # What could not even be looked at (a size below 0) is compared by its reason.
    again = update(ArchiveFile).where(col(ArchiveFile.item_id).in_(passing), col(ArchiveFile.size) >= 0)
    execute_dml(session, again.values(size=TAKE_AGAIN))
