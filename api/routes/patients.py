"""/v1/submissions/{id}/patients and slides, and those of archives: what models said, taken together."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sqlmodel import Session

from api.context import Context, ContextDep, ReaderDep
from api.cursors import cursor_of, key_of
from api.etags import tagged
from api.exports import csv_lines, guard
from api.item_search import find_archive_id
from api.problems import Problem
from api.rights import needs
from api.routes.items import download
from api.serving import read_rules
from api.submissions import find_submission
from core.access import Scope
from core.bundle import NOTICE, DecisionRule
from core.rollup import Extent, Grouping, Rollup, iter_rollups, read_rollups

router = APIRouter(
    prefix="/v1", tags=["results"], responses={404: {"model": Problem}}, dependencies=[needs(Scope.READ)]
)

_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {}}}}


@dataclass(frozen=True)
class Paging:
    """Which page is asked for."""

    cursor: Annotated[str | None, Query(max_length=4000, description="next_cursor of the page before")] = None
    limit: Annotated[int, Query(ge=1, le=1000)] = 25


PagingDep = Annotated[Paging, Depends(Paging)]


class RollupPage(BaseModel):
    """Patients or slides by name; images without one are the last group. next_cursor asks for the next page."""

    groups: list[Rollup]
    next_cursor: str | None
    notice: str = NOTICE


@router.get("/submissions/{submission_id}/patients", response_model=RollupPage)
def list_patients(
    submission_id: str, request: Request, context: ContextDep, reader: ReaderDep, paging: PagingDep
) -> Response:
    """Take a submission's images together by patient. Images of which nobody knows the patient are the last group."""
    with context.database.read() as session:
        extent = _submission(session, submission_id, Grouping.PATIENT)
        page = _page(request, session, context, extent, paging)
    reader.sees("patients", submission_id)
    return page


@router.get("/submissions/{submission_id}/slides", response_model=RollupPage)
def list_slides(
    submission_id: str, request: Request, context: ContextDep, reader: ReaderDep, paging: PagingDep
) -> Response:
    """Take a submission's images together by slide. Images without a patient or a slide are the last group."""
    with context.database.read() as session:
        extent = _submission(session, submission_id, Grouping.SLIDE)
        page = _page(request, session, context, extent, paging)
    reader.sees("slides", submission_id)
    return page


@router.get("/archives/{name}/patients", response_model=RollupPage)
def list_archive_patients(
    name: str, request: Request, context: ContextDep, reader: ReaderDep, paging: PagingDep
) -> Response:
    """Take together, by patient, the last images of all files that an archive holds now."""
    with context.database.read() as session:
        extent = _archive(session, name, Grouping.PATIENT)
        page = _page(request, session, context, extent, paging)
    reader.sees_archive("patients", name)
    return page


@router.get("/archives/{name}/slides", response_model=RollupPage)
def list_archive_slides(
    name: str, request: Request, context: ContextDep, reader: ReaderDep, paging: PagingDep
) -> Response:
    """Take together, by slide, the last images of all files that an archive holds now."""
    with context.database.read() as session:
        extent = _archive(session, name, Grouping.SLIDE)
        page = _page(request, session, context, extent, paging)
    reader.sees_archive("slides", name)
    return page


@router.get("/submissions/{submission_id}/patients.csv", response_class=StreamingResponse, responses=_CSV)
def export_patients(submission_id: str, context: ContextDep, reader: ReaderDep) -> StreamingResponse:
    """Download all patients of a submission as CSV."""
    with context.database.read() as session:
        extent = _submission(session, submission_id, Grouping.PATIENT)
    reader.exports(submission_id, "patients.csv")
    return _csv(context, extent, f"{submission_id}-patients.csv")


@router.get("/submissions/{submission_id}/slides.csv", response_class=StreamingResponse, responses=_CSV)
def export_slides(submission_id: str, context: ContextDep, reader: ReaderDep) -> StreamingResponse:
    """Download all slides of a submission as CSV."""
    with context.database.read() as session:
        extent = _submission(session, submission_id, Grouping.SLIDE)
    reader.exports(submission_id, "slides.csv")
    return _csv(context, extent, f"{submission_id}-slides.csv")


@router.get("/archives/{name}/patients.csv", response_class=StreamingResponse, responses=_CSV)
def export_archive_patients(name: str, context: ContextDep, reader: ReaderDep) -> StreamingResponse:
    """Download all patients of an archive as CSV."""
    with context.database.read() as session:
        extent = _archive(session, name, Grouping.PATIENT)
    reader.exports_archive(name, "patients.csv")
    return _csv(context, extent, "archive-patients.csv")


@router.get("/archives/{name}/slides.csv", response_class=StreamingResponse, responses=_CSV)
def export_archive_slides(name: str, context: ContextDep, reader: ReaderDep) -> StreamingResponse:
    """Download all slides of an archive as CSV."""
    with context.database.read() as session:
        extent = _archive(session, name, Grouping.SLIDE)
    reader.exports_archive(name, "slides.csv")
    return _csv(context, extent, "archive-slides.csv")


def _submission(session: Session, submission_id: str, grouping: Grouping) -> Extent:
    return Extent(submission_id=find_submission(session, submission_id).id, grouping=grouping)


def _archive(session: Session, name: str, grouping: Grouping) -> Extent:
    return Extent(archive_id=find_archive_id(session, name), grouping=grouping)


def _page(request: Request, session: Session, context: Context, extent: Extent, paging: Paging) -> Response:
    after = None if paging.cursor is None else key_of(paging.cursor, extent.grouping)
    groups, last = read_rollups(session, extent, read_rules(context.settings), after, paging.limit)
    return tagged(request, RollupPage(groups=groups, next_cursor=None if last is None else cursor_of(last)))


def _csv(context: Context, extent: Extent, name: str) -> StreamingResponse:
    lines = _write_csv(context, extent, read_rules(context.settings))
    return download(lines, "text/csv; charset=utf-8", name)


def _write_csv(context: Context, extent: Extent, rules: Mapping[str, DecisionRule]) -> Iterator[bytes]:
    yield csv_lines([(*Rollup.model_fields, "notice")])
    for groups in iter_rollups(context.database, extent, rules):
        yield csv_lines(
            (guard(group.patient), guard(group.slide), *list(group.model_dump().values())[2:], NOTICE)
            for group in groups
        )
