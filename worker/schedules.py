"""Begin the scans that are due, and have nothing of a scan run outside its archive's window."""

from datetime import datetime, timedelta

import structlog
from sqlalchemy import and_, or_, update
from sqlmodel import Session, col, select

from core.archive_tables import Archive, Scan
from core.archives import ArchiveBusy
from core.database import execute_dml
from core.errors import Reason
from core.scans import BY_SCHEDULE, begin_scan
from core.schedule import is_open, next_fire, next_opening, window_of
from core.states import OPEN_SUBMISSIONS, ScanState, SubmissionState
from core.tables import Submission, utc_now
from core.transitions import park_until, unpark_submission
from worker.context import WorkerContext

log = structlog.get_logger()

# A parked submission is looked at again so soon. No stored wait may be longer than core.transitions.LONGEST_WAIT.
_LONGEST_PARK = timedelta(minutes=10)
_WAITS = "a scan runs in its archive's window only: it goes on when that opens"
_WAITING = (
    col(Submission.state) == SubmissionState.PARKED,
    col(Submission.reason) == Reason.OUTSIDE_WINDOW,
)


def begin_due_scans(context: WorkerContext) -> None:
    """Begin the scans whose time has come. Of several workers that look at once, one begins each."""
    with context.database.read() as session:
        scheduled = (col(Archive.enabled).is_(True), col(Archive.schedule).is_not(None))
        archives = session.exec(select(Archive).where(*scheduled)).all()
    now = utc_now()
    for archive in archives:
        try:
            next_at = next_fire(archive.schedule or "", archive.time_zone, now)
        except ValueError:
            # It was right when it was stored; a time zone may have been abolished since. Others must not wait for it.
            log.error("archive_schedule_invalid", archive_id=archive.id)
            continue
        is_due = archive.next_at is not None and archive.next_at <= now
        # What lies behind the next time that it should be was written by a clock that was ahead.
        if is_due or archive.next_at is None or (next_at is not None and archive.next_at > next_at):
            _advance(context, archive, next_at, begins=is_due)


def keep_windows(context: WorkerContext) -> None:
    """Put aside the scans whose window is closed, and take up those whose window is open again.

    What somebody asked for does not wait: who asks by day wants to see it by day.
    """
    concerned = or_(col(Scan.asked_by) == BY_SCHEDULE, and_(*_WAITING))
    query = (
        select(Submission.id, Archive, Scan.id)
        .join(Scan, col(Scan.submission_id) == col(Submission.id))
        .join(Archive, col(Archive.id) == col(Scan.archive_id))
        .where(Scan.state == ScanState.RUNNING, col(Submission.state).in_(OPEN_SUBMISSIONS), concerned)
    )
    with context.database.read() as session:
        found = session.exec(query).all()
    now = utc_now()
    for submission_id, archive, scan_id in found:
        try:
            window = window_of(archive)
        except ValueError:
            log.error("archive_window_invalid", archive_id=archive.id)
            continue
        with context.database.write() as session:
            if window is not None and not is_open(window, now):
                retry_at = min(next_opening(window, now), now + _LONGEST_PARK)
                if _park(session, submission_id, retry_at):
                    log.info("scan_waits_for_window", scan_id=scan_id)
            elif _unpark(session, submission_id):
                log.info("scan_goes_on", scan_id=scan_id)


def _advance(context: WorkerContext, archive: Archive, next_at: datetime | None, *, begins: bool) -> None:
    """Note when the archive is scanned next, and begin the scan that is due, unless another worker did both."""
    as_read = col(Archive.next_at).is_(None) if archive.next_at is None else col(Archive.next_at) == archive.next_at
    with context.database.write() as session:
        advanced = update(Archive).where(col(Archive.id) == archive.id, as_read).values(next_at=next_at)
        if not execute_dml(session, advanced) or not begins:
            return
        try:
            scan = begin_scan(session, session.get_one(Archive, archive.id), BY_SCHEDULE)
        except ArchiveBusy as error:
            log.warning("scan_still_runs", archive_id=archive.id, scan_id=error.scan_id)
            return
    log.info("scan_begun", archive_id=archive.id, scan_id=scan.id, submission_id=scan.submission_id)


def _park(session: Session, submission_id: str, retry_at: datetime) -> bool:
    """Whether the submission waits from now on; one that waits already waits longer."""
    if park_until(session, submission_id, retry_at, Reason.OUTSIDE_WINDOW, _WAITS):
        return True
    mine = (col(Submission.id) == submission_id, *_WAITING)
    execute_dml(session, update(Submission).where(*mine).values(retry_at=retry_at))
    return False


def _unpark(session: Session, submission_id: str) -> bool:
    waiting = select(Submission.id).where(col(Submission.id) == submission_id, *_WAITING)
    return session.exec(waiting).first() is not None and unpark_submission(session, submission_id)
