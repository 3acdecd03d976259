"""Reading submissions, one or a page, into the wire format."""

import re

from sqlmodel import Session, col, select

from api.problems import not_found
from api.schemas import CountsPublic, SubmissionPage, SubmissionPublic, SubmissionSummary
from core.lanes import Lane
from core.paths import readable
from core.progress import Counts, count_images, is_listed, measure_progress
from core.states import SubmissionState
from core.tables import Submission, utc_now

# What else comes as an id was never made here; some of it (NUL) a database would choke on.
_ID = re.compile("[0-9a-f]{32}")


def is_id(text: str) -> bool:
    """Whether a text can be the id of a submission or a scan."""
    return _ID.fullmatch(text) is not None


def find_submission(session: Session, submission_id: str) -> Submission:
    """Find a submission.

    Raises:
        ApiError: there is none (404).
    """
    submission = session.get(Submission, submission_id) if is_id(submission_id) else None
    if submission is None:
        raise not_found("submission")
    return submission


def read_submissions(
    session: Session, *, state: SubmissionState | None, lane: Lane | None, cursor: str | None, limit: int
) -> SubmissionPage:
    """Read one page of submissions, newest first: their ids sort by time."""
    query = select(Submission).order_by(col(Submission.id).desc()).limit(limit + 1)
    if state is not None:
        query = query.where(col(Submission.state) == state)
    if lane is not None:
        query = query.where(col(Submission.lane) == lane)
    if cursor is not None:
        query = query.where(col(Submission.id) < cursor)
    rows = list(session.exec(query))
    shown = rows[:limit]
    counts = count_images(session, [row.id for row in shown])
    return SubmissionPage(
        submissions=[_summarise(row, counts[row.id]) for row in shown],
        next_cursor=shown[-1].id if len(rows) > limit else None,
    )


def describe(session: Session, submission: Submission) -> SubmissionPublic:
    """Put a submission and its progress into the wire format."""
    progress = measure_progress(session, submission, utc_now())
    return SubmissionPublic(
        **_summarise(submission, progress.counts).model_dump(),
        listed=is_listed(submission),
        failures=progress.failures,
        images_per_s=progress.images_per_s,
        eta_s=progress.eta_s,
    )


def describe_new(submission: Submission) -> SubmissionPublic:
    """Put a submission that was recorded at this moment into the wire format."""
    return SubmissionPublic(
        **_summarise(submission, Counts()).model_dump(), listed=False, failures={}, images_per_s=None, eta_s=None
    )


def _summarise(submission: Submission, counts: Counts) -> SubmissionSummary:
    return SubmissionSummary(
        id=submission.id,
        state=submission.state,
        lane=submission.lane,
        source=submission.source,
        folder=readable(submission.folder),
        submitter=submission.submitter,
        created_at=submission.created_at,
        finished_at=submission.finished_at,
        reason=submission.reason,
        detail=submission.detail,
        retry_at=submission.retry_at,
        counts=CountsPublic(
            total=counts.total,
            pending=counts.pending,
            benign=counts.benign,
            malignant=counts.malignant,
            uncertain=counts.uncertain,
            failed=counts.failed,
            skipped=counts.skipped,
        ),
    )
