"""/v1/archives: folders that are scanned again and again; defining and changing them."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from api.archive_changes import apply_change, check_new_root, complete, refuse_files_own
from api.archive_schemas import (
    ArchiveChange,
    ArchiveCreate,
    ArchiveList,
    ArchivePublic,
    ArchiveStored,
)
from api.archives import describe_archive, get_archive, read_archives
from api.context import ContextDep, DatabaseDep, SettingsDep, SubmitterDep
from api.problems import ApiError, Problem, ProblemReason
from api.rights import needs
from core.access import Scope
from core.archive_tables import Archive
from core.archives import ArchiveBusy, change_archive, create_archive, find_archive, remove_archive

router = APIRouter(prefix="/v1/archives", tags=["archives"])


@router.post(
    "",
    status_code=HTTPStatus.CREATED,
    responses={code: {"model": Problem} for code in (403, 404, 409, 422)},
    dependencies=[needs(Scope.ADMIN)],
)
def create(
    *, body: ArchiveCreate, request: Request, response: Response, context: ContextDep, submitter: SubmitterDep
) -> ArchiveStored:
    """Define an archive. Its root must lie below an allowed root and be there."""
    definition, secret = complete(body, check_new_root(body.root, context.settings))
    try:
        with context.database.write() as session:
            if find_archive(session, definition.name) is not None:
                raise _exists(definition.name)
            stored = _answer(session, create_archive(session, definition, submitter), secret)
    except IntegrityError as error:
        raise _exists(definition.name) from error
    response.headers["Location"] = str(request.url_for("show_archive", name=definition.name).path)
    return stored


@router.get("", dependencies=[needs(Scope.READ)])
def list_archives(
    database: DatabaseDep,
    settings: SettingsDep,
    cursor: Annotated[str, Query(pattern="^[a-z0-9_-]{0,63}$", description="next_cursor of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> ArchiveList:
    """List archives by name, each with its last scan, and what is wrong with the file of archives."""
    with database.read() as session:
        return read_archives(session, settings, cursor, limit)


@router.get("/{name}", responses={404: {"model": Problem}}, dependencies=[needs(Scope.READ)])
def show_archive(name: str, database: DatabaseDep) -> ArchivePublic:
    """Show one archive: its definition, when it is scanned next, and its last scan."""
    with database.read() as session:
        return describe_archive(session, get_archive(session, name))


@router.patch(
    "/{name}", responses={code: {"model": Problem} for code in (403, 404, 409, 422)}, dependencies=[needs(Scope.ADMIN)]
)
def change(name: str, body: ArchiveChange, context: ContextDep, submitter: SubmitterDep) -> ArchiveStored:
    """Change some of an archive's fields. A scan that runs goes on as it began, as far as it can."""
    if body.root is not None:
        # Before the transaction: storage that hangs must not hold up other writers.
        body = body.model_copy(update={"root": check_new_root(body.root, context.settings)})
    with context.database.write() as session:
        archive = get_archive(session, name)
        definition, secret = apply_change(archive, body)
        change_archive(session, archive, definition, submitter)
        return _answer(session, archive, secret)


@router.delete(
    "/{name}",
    status_code=HTTPStatus.NO_CONTENT,
    responses={404: {"model": Problem}, 409: {"model": Problem}},
    dependencies=[needs(Scope.ADMIN)],
)
def remove(name: str, database: DatabaseDep, submitter: SubmitterDep) -> None:
    """Forget an archive, its files, and what its scans counted. Their submissions, images and results stay.

    To keep the reports of its scans, set enabled to false instead.
    """
    with database.read() as session:
        archive = get_archive(session, name)
    refuse_files_own(archive)
    try:
        remove_archive(database, archive, submitter)
    except ArchiveBusy as error:
        raise ApiError(HTTPStatus.CONFLICT, ProblemReason.SCAN_RUNNING, str(error)) from error


def _answer(session: Session, archive: Archive, secret: str | None) -> ArchiveStored:
    public = describe_archive(session, archive)
    return ArchiveStored(**public.model_dump(), new_webhook_secret=secret)


def _exists(name: str) -> ApiError:
    return ApiError(HTTPStatus.CONFLICT, ProblemReason.ARCHIVE_EXISTS, f"there is an archive {name} already")
