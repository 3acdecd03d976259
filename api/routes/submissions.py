"""/v1/submissions: hand in a folder, see how far it is, end it."""

import os
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Header, Query, Request, Response
from sqlalchemy import update
from sqlmodel import Session, col

from api.admission import Admission, admit, announce, find_replayed, hash_request
from api.context import Context, ContextDep, DatabaseDep, SubmitterDep
from api.disk import check_disk
from api.etags import tagged
from api.problems import ApiError, Problem, ProblemReason, folder_refused
from api.rights import needs
from api.schemas import SubmissionCreate, SubmissionPage, SubmissionPublic
from api.submissions import describe, describe_new, find_submission, read_submissions
from core.access import Scope
from core.audit import record
from core.database import execute_dml
from core.errors import FolderError
from core.lanes import Lane
from core.paths import path_to_text, resolve_folder, text_to_path
from core.settings import Settings
from core.states import SubmissionState
from core.storage.addresses import is_address, resolve_address
from core.tables import Submission
from core.transitions import cancel_submission, unpark_submission

router = APIRouter(prefix="/v1/submissions", tags=["submissions"])

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
    dependencies=[needs(Scope.SUBMIT)],
    responses={code: {"model": Problem} for code in (403, 404, 422, 507)},
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
        folder = _resolve(body.folder, context.settings)
    except FolderError as error:
        raise folder_refused(error) from error
    check_disk(context.settings)
    submission = Submission(
        lane=body.lane,
        source="folder",
        folder=folder,
        submitter=submitter,
        idempotency_key=idempotency_key,
        request_hash=request_hash,
    )
    return answer(admit(context.database, submission), request, response, tasks, context)


@router.get("", dependencies=[needs(Scope.READ)])
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


@router.get(
    "/{submission_id}",
    response_model=SubmissionPublic,
    responses={404: {"model": Problem}},
    dependencies=[needs(Scope.READ)],
)
def show_submission(submission_id: str, request: Request, database: DatabaseDep) -> Response:
    """Show one submission: its state, its images by outcome, its speed, and the seconds that are left."""
    with database.read() as session:
        shown = describe(session, find_submission(session, submission_id))
    return tagged(request, shown, passing=("images_per_s", "eta_s"))


@router.delete(
    "/{submission_id}", responses={404: {"model": Problem}, 409: {"model": Problem}}, dependencies=[needs(Scope.SUBMIT)]
)
def cancel(submission_id: str, database: DatabaseDep, submitter: SubmitterDep) -> SubmissionPublic:
    """End a submission. Images that no worker has in hand are skipped; results that exist stay."""
    with database.write() as session:
        submission = find_submission(session, submission_id)
        if not cancel_submission(session, submission_id):
            raise ApiError(HTTPStatus.CONFLICT, ProblemReason.ALREADY_ENDED, f"it is {submission.state} already")
        record(session, submitter, "submission.cancel", submission_id)
        session.flush()
        session.refresh(submission)
        return describe(session, submission)


@router.post(
    "/{submission_id}/retry",
    responses={404: {"model": Problem}, 409: {"model": Problem}},
    dependencies=[needs(Scope.SUBMIT)],
)
def retry(submission_id: str, tasks: BackgroundTasks, context: ContextDep, submitter: SubmitterDep) -> SubmissionPublic:
    """Try a submission now that waits for its storage or for room, instead of at retry_at."""
    with context.database.write() as session:
        submission = find_submission(session, submission_id)
        if not (unpark_submission(session, submission_id) or _stop_waiting_for_room(session, submission_id)):
            raise ApiError(
                HTTPStatus.CONFLICT, ProblemReason.NOT_WAITING, f"it is {submission.state}, and waits for no new try"
            )
        record(session, submitter, "submission.retry", submission_id)
        session.flush()
        session.refresh(submission)
        answered = describe(session, submission)
    if submission.state == SubmissionState.ACCEPTED:
        tasks.add_task(announce, context.queue, submission_id)
    # The batches of one that runs again wait for their turn in the database: the reconciler gives it to them.
    return answered


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
    return describe_new(submission)


def _stop_waiting_for_room(session: Session, submission_id: str) -> bool:
    """Have an accepted submission listed at once that was put off; False where it was not."""
    put_off = (
        col(Submission.id) == submission_id,
        col(Submission.state) == SubmissionState.ACCEPTED,
        col(Submission.retry_at).is_not(None),
    )
    statement = update(Submission).where(*put_off).values(retry_at=None, reason=None, detail=None)
    return bool(execute_dml(session, statement))


def _resolve(folder: str, settings: Settings) -> str:
    if is_address(folder):
        # Not looked at here: the API need not have the credentials of the workers.
        return str(resolve_address(folder, settings.remote_roots))
    return path_to_text(os.fsencode(resolve_folder(os.fsdecode(text_to_path(folder)), settings.roots)))
