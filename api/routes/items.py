"""/v1/submissions/{id}/items and its results as streams."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from api.context import DatabaseDep
from api.exports import write_csv, write_jsonl
from api.items import ItemFilter, iter_items, read_items
from api.problems import Problem
from api.routes.submissions import find_submission
from api.schemas import ItemPage
from core.bundle import Decision
from core.database import Database
from core.states import ItemState

router = APIRouter(prefix="/v1/submissions/{submission_id}", tags=["results"], responses={404: {"model": Problem}})

# SQLite and PostgreSQL count ids in 63 bits.
_LAST_ID = 2**63 - 1


def get_filter(
    state: ItemState | None = None,
    decision: Decision | None = None,
    reason: Annotated[str | None, Query(max_length=100, pattern="^[a-z_]*$")] = None,
) -> ItemFilter:
    """Read which images are meant from the query; an empty reason means any."""
    return ItemFilter(state=state, decision=decision, reason=reason or None)


FilterDep = Annotated[ItemFilter, Depends(get_filter)]


@router.get("/items")
def list_items(
    submission_id: str,
    database: DatabaseDep,
    which: FilterDep,
    cursor: Annotated[int, Query(ge=0, le=_LAST_ID, description="next_cursor of the page before")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ItemPage:
    """List a submission's images and their outcomes, in the order in which they were listed."""
    with database.read() as session:
        find_submission(session, submission_id)
        items = read_items(session, submission_id, which, cursor, limit + 1)
    shown = items[:limit]
    return ItemPage(items=shown, next_cursor=str(shown[-1].id) if len(items) > limit else None)


@router.get("/results.csv", response_class=StreamingResponse, responses={200: {"content": {"text/csv": {}}}})
def export_csv(submission_id: str, database: DatabaseDep, which: FilterDep) -> StreamingResponse:
    """Download all images and their outcomes as CSV. Cells that a spreadsheet would run start with an apostrophe."""
    _check_exists(database, submission_id)
    lines = write_csv(iter_items(database, submission_id, which))
    return _download(lines, "text/csv; charset=utf-8", f"{submission_id}.csv")


@router.get("/results.jsonl", response_class=StreamingResponse, responses={200: {"content": {"application/jsonl": {}}}})
def export_jsonl(submission_id: str, database: DatabaseDep, which: FilterDep) -> StreamingResponse:
    """Download all images and their outcomes as JSON Lines."""
    _check_exists(database, submission_id)
    lines = write_jsonl(iter_items(database, submission_id, which))
    return _download(lines, "application/jsonl", f"{submission_id}.jsonl")


def _check_exists(database: Database, submission_id: str) -> None:
    with database.read() as session:
        find_submission(session, submission_id)


def _download(lines: Iterator[bytes], media_type: str, name: str) -> StreamingResponse:
    # The name holds an id that is in the database, so hex digits only.
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines, media_type=media_type, headers=headers)
