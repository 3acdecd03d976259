"""/v1/archives/NAME/scans and /v1/scans: beginning a scan, what it found, and ending it."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, BackgroundTasks, Query, Request, Response

from api.admission import announce
from api.archive_schemas import ScanCreate, ScanPage, ScanPublic
from api.archives import describe_scan, get_archive, get_scan, read_scans
from api.context import ContextDep, DatabaseDep, SubmitterDep
from api.disk import check_disk
from api.problems import ApiError, Problem, ProblemReason
from api.rights import needs
from core.access import Scope
from core.archives import ArchiveBusy
from core.audit import record
from core.scans import begin_scan
from core.transitions import cancel_submission

router = APIRouter(prefix="/v1", tags=["archives"])

_Cursor = Annotated[str | None, Query(pattern="^[0-9a-f]{32}$", description="next_cursor of the page before")]
_Limit = Annotated[int, Query(ge=1, le=100)]


@router.post(
    "/archives/{name}/scans",
    dependencies=[needs(Scope.SUBMIT)],
    status_code=HTTPStatus.ACCEPTED,
    responses={code: {"model": Problem} for code in (404, 409, 507)},
)
def create(
    *,
    name: str,
    request: Request,
    response: Response,
    tasks: BackgroundTasks,
    context: ContextDep,
    submitter: SubmitterDep,
    body: ScanCreate | None = None,
) -> ScanPublic:
    """Begin a scan now, whatever the schedule says. At most one scan of an archive runs at a time."""
    check_disk(context.settings)
    accepts_missing = body is not None and body.accept_missing
    with context.database.write() as session:
        archive = get_archive(session, name)
        try:
            begun = begin_scan(session, archive, submitter, accepts_missing=accepts_missing)
        except ArchiveBusy as error:
            raise ApiError(HTTPStatus.CONFLICT, ProblemReason.SCAN_RUNNING, str(error)) from error
        record(session, submitter, "scan.create", begun.id)
        answer = describe_scan(session, begun)
    response.headers["Location"] = str(request.url_for("show_scan", scan_id=answer.id).path)
    tasks.add_task(announce, context.queue, answer.submission_id)
    return answer


@router.get("/archives/{name}/scans", responses={404: {"model": Problem}}, dependencies=[needs(Scope.READ)])
def list_scans(name: str, database: DatabaseDep, cursor: _Cursor = None, limit: _Limit = 20) -> ScanPage:
    """List an archive's scans, newest first."""
    with database.read() as session:
        return read_scans(session, get_archive(session, name), cursor, limit)


@router.get("/scans/{scan_id}", responses={404: {"model": Problem}}, dependencies=[needs(Scope.READ)])
def show_scan(scan_id: str, database: DatabaseDep) -> ScanPublic:
    """Show a scan and its counts. How far its images are says its submission."""
    with database.read() as session:
        return describe_scan(session, get_scan(session, scan_id))


@router.delete(
    "/scans/{scan_id}", responses={404: {"model": Problem}, 409: {"model": Problem}}, dependencies=[needs(Scope.SUBMIT)]
)
def cancel(scan_id: str, database: DatabaseDep, submitter: SubmitterDep) -> ScanPublic:
    """End a scan and its submission. What it found missing counts as there; the next scan finds the rest."""
    with database.write() as session:
        scan = get_scan(session, scan_id)
        if not cancel_submission(session, scan.submission_id):
            raise ApiError(HTTPStatus.CONFLICT, ProblemReason.ALREADY_ENDED, "its images have all ended already")
        record(session, submitter, "scan.cancel", scan_id)
        session.flush()
        session.refresh(scan)
        return describe_scan(session, scan)
