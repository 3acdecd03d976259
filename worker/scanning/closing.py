"""End scans whose submission has ended."""

import structlog
from sqlmodel import col, select

from core.archive_tables import Scan
from core.contents import count_contents
from core.scans import close_scan
from core.states import OPEN_SUBMISSIONS, ScanState
from core.tables import Submission
from worker.context import WorkerContext

log = structlog.get_logger()

# Scans that one look ends; the next goes on.
_AT_ONCE = 20


def close_ended_scan(context: WorkerContext, submission_id: str) -> None:
    """End the scan of a submission that has ended, if it has one and nobody did so before."""
    with context.database.read() as session:
        query = select(Scan).where(Scan.submission_id == submission_id, Scan.state == ScanState.RUNNING)
        scan = session.exec(query).one_or_none()
        if scan is None:
            return
        contents = count_contents(session, scan)
    with context.database.write() as session:
        if not close_scan(session, scan, contents):
            return
        closed = session.get_one(Scan, scan.id, populate_existing=True)
    fields = {"scan_id": scan.id, "submission_id": submission_id, "new": closed.new, "changed": closed.changed}
    if closed.state == ScanState.FAILED:
        # Nothing of the archive counts as deleted, and somebody must look.
        log.error("scan_failed", reason=closed.reason, **fields)
    else:
        log.info("scan_ended", state=closed.state, deleted=closed.deleted, withheld=closed.withheld, **fields)


def close_ended_scans(context: WorkerContext) -> None:
    """End all scans whose submission has ended, such as by request, or with the worker that should have ended them."""
    ended = (
        select(Scan.submission_id)
        .join(Submission, col(Submission.id) == col(Scan.submission_id))
        .where(Scan.state == ScanState.RUNNING, col(Submission.state).not_in(OPEN_SUBMISSIONS))
        .limit(_AT_ONCE)
    )
    with context.database.read() as session:
        submissions = list(session.exec(ended))
    for submission_id in submissions:
        close_ended_scan(context, submission_id)
