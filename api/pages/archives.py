"""Archives: what is scanned when, what each scan found, and scanning now."""

from http import HTTPStatus
from typing import Annotated

from fastapi import BackgroundTasks, Form, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from api.archive_schemas import ScanCreate
from api.archives import describe_archive, get_archive, read_archives, read_scans
from api.context import ContextDep, SubmitterDep
from api.csrf import CheckedForm
from api.pages.page_route import make_router
from api.rendering import render
from api.rights import needs
from api.routes.scans import create
from core.access import Scope
from core.states import ScanState
from core.tables import utc_now
from core.unreviewed import UnreviewedFilter, count_unreviewed

router = make_router()

_ARCHIVES = 50
_SCANS = 25


@router.get("/archives")
def archives_page(
    request: Request, context: ContextDep, cursor: Annotated[str, Query(pattern="^[a-z0-9_-]{0,63}$")] = ""
) -> HTMLResponse:
    """List archives by name, each with its schedule and its last scan."""
    with context.database.read() as session:
        found = read_archives(session, context.settings, cursor, _ARCHIVES)
    return render(request, "archives.html", found=found, is_first=not cursor, now=utc_now())


@router.get("/archives/{name}")
def archive_page(
    name: str,
    request: Request,
    context: ContextDep,
    cursor: Annotated[str | None, Query(pattern="^[0-9a-f]{32}$")] = None,
) -> HTMLResponse:
    """Show one archive, how it is defined, and its scans, newest first."""
    with context.database.read() as session:
        archive = get_archive(session, name)
        shown = describe_archive(session, archive)
        scans = read_scans(session, archive, cursor, _SCANS)
        unreviewed = count_unreviewed(session, UnreviewedFilter(archive_id=archive.id))
    last = shown.last_scan
    return render(
        request,
        "archive.html",
        archive=shown,
        scans=scans.scans,
        next_cursor=scans.next_cursor,
        is_first=cursor is None,
        is_scanned=last is not None and last.state == ScanState.RUNNING,
        unreviewed=unreviewed,
        may_submit=request.state.principal.may(Scope.SUBMIT),
        now=utc_now(),
    )


@router.post("/archives/{name}/scans", dependencies=[needs(Scope.SUBMIT), CheckedForm])
def scan_now(
    *,
    name: str,
    request: Request,
    tasks: BackgroundTasks,
    context: ContextDep,
    submitter: SubmitterDep,
    accept_missing: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """Begin a scan, and show the archive with it."""
    body = ScanCreate(accept_missing=accept_missing)
    create(
        name=name, request=request, response=Response(), tasks=tasks, context=context, submitter=submitter, body=body
    )
    return RedirectResponse(request.url_for("archive_page", name=name).path, HTTPStatus.SEE_OTHER)
