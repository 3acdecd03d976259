"""/v1/submissions: hand in a folder, see how far it is, end it."""

import os
import re
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Header, Query, Request, Response
from sqlmodel import Session, col, select

from api.admission import Admission, admit, announce, find_replayed, hash_request
from api.context import Context, ContextDep, DatabaseDep, SubmitterDep
from api.problems import ApiError, Problem, ProblemReason, folder_refused, not_found
from api.progress import Counts, count_images, is_listed, measure_progress
from api.schemas import CountsPublic, SubmissionCreate, SubmissionPage, SubmissionPublic, SubmissionSummary
from core.errors import FolderError
from core.lanes import Lane
from core.paths import path_to_text, readable, resolve_folder, text_to_path
from core.states import SubmissionState
from core.tables import Audit, Submission, utc_now
from core.transitions import cancel_submission

router = APIRouter(prefix="/v1/submissions", tags=["submissions"])

# What else comes as an id was never made here; some of it (NUL) a database would choke on.
_ID = re.compile("[0-9a-f]{32}")

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        description="Makes repeating safe: the same key with the same request answers with the same submission.",
    ),
]


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    responses={code: {"model": Problem} for code in (403, 404, 422)},
)
def create_submission(
    *,
    body: SubmissionCreate,
    request: Request,
    response: Response,
    tasks: BackgroundTasks,
    context: ContextDep,
    submitter: SubmitterDep,
    idempotency_key: IdempotencyKey = None,
) -> SubmissionPublic:
    """Hand in a folder. Answers at once (202, with the submission's address); workers list and classify it."""
    request_hash = hash_request(source="folder", folder=body.folder, lane=body.lane)
    earlier = find_replayed(context.database, idempotency_key, request_hash)
    if earlier is not None:
        return answer(Admission(earlier, is_new=False), request, response, tasks, context)
    try:
        folder = resolve_folder(os.fsdecode(text_to_path(body.folder)), context.settings.roots)
    except FolderError as error:
        raise folder_refused(error) from error
    submission = Submission(
        lane=body.lane,
        source="folder",
        folder=path_to_text(os.fsencode(folder)),
        submitter=submitter,
        idempotency_key=idempotency_key,
        request_hash=request_hash,
    )
    return answer(admit(context.database, submission), request, response, tasks, context)


@router.get("")
def list_submissions(
    database: DatabaseDep,
    state: SubmissionState | None = None,
    lane: Lane | None = None,
    cursor: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="next_cursor of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> SubmissionPage:
    """List submissions, newest first. Those that come meanwhile do not move the pages that follow."""
    with database.read() as session:
        return read_submissions(session, state=state, lane=lane, cursor=cursor, limit=limit)


@router.get("/{submission_id}", responses={404: {"model": Problem}})
def show_submission(submission_id: str, database: DatabaseDep) -> SubmissionPublic:
    """Show one submission: its state, its images by outcome, its speed, and the seconds that are left."""
    with database.read() as session:
        return describe(session, find_submission(session, submission_id))


@router.delete("/{submission_id}", responses={404: {"model": Problem}, 409: {"model": Problem}})
def cancel(submission_id: str, database: DatabaseDep, submitter: SubmitterDep) -> SubmissionPublic:
    """End a submission. Images that no worker has in hand are skipped; results that exist stay."""
    with database.write() as session:
        submission = find_submission(session, submission_id)
        if not cancel_submission(session, submission_id):
            raise ApiError(HTTPStatus.CONFLICT, ProblemReason.ALREADY_ENDED, f"it is {submission.state} already")
        session.add(Audit(who=submitter, action="submission.cancel", subject=submission_id))
        session.flush()
        session.refresh(submission)
        return describe(session, submission)


def answer(
    admission: Admission, request: Request, response: Response, tasks: BackgroundTasks, context: Context
) -> SubmissionPublic:
    """Make the answer to whoever handed something in: 202 for a new submission, 200 for one that was there."""
    submission = admission.submission
    response.headers["Location"] = str(request.url_for("show_submission", submission_id=submission.id).path)
    if not admission.is_new:
        response.status_code = HTTPStatus.OK
        with context.database.read() as session:
            return describe(session, find_submission(session, submission.id))
    # After the answer: a broker that is slow or away does not keep anybody waiting.
    tasks.add_task(announce, context.queue, submission.id)
    return SubmissionPublic(
        **_summarise(submission, Counts()).model_dump(), listed=False, failures={}, images_per_s=None, eta_s=None
    )


def find_submission(session: Session, submission_id: str) -> Submission:
    """Find a submission.

    Raises:
        ApiError: there is none (404).
    """
    submission = session.get(Submission, submission_id) if _ID.fullmatch(submission_id) else None
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
