"""/v1/submissions/{id}/items and its results as streams; /v1/items finds images of any submission."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from api.context import DatabaseDep, ReaderDep
from api.etags import tagged
from api.exports import write_csv, write_jsonl
from api.item_filter import FilterDep
from api.item_search import search_items
from api.items import iter_items, read_items
from api.parquet import take_parquet_turn, write_parquet
from api.problems import Problem
from api.rights import needs
from api.schemas import ItemPage, ItemSearchPage
from api.streams import HoldingResponse
from api.submissions import find_submission
from core.access import Scope
from core.database import Database

router = APIRouter(
    prefix="/v1", tags=["results"], responses={404: {"model": Problem}}, dependencies=[needs(Scope.READ)]
)

# SQLite and PostgreSQL count ids in 63 bits.
_LAST_ID = 2**63 - 1
_NEXT = "next_cursor of the page before"
_Limit = Annotated[int, Query(ge=1, le=1000)]
PARQUET = "application/vnd.apache.parquet"


@router.get("/submissions/{submission_id}/items", response_model=ItemPage)
def list_items(
    *,
    submission_id: str,
    request: Request,
    database: DatabaseDep,
    reader: ReaderDep,
    which: FilterDep,
    cursor: Annotated[int, Query(ge=0, le=_LAST_ID, description=_NEXT)] = 0,
    limit: _Limit = 100,
) -> Response:
    """List a submission's images and their outcomes, in the order in which they were listed."""
    with database.read() as session:
        find_submission(session, submission_id)
        found = read_items(session, submission_id, which, cursor, limit)
    reader.sees("items", submission_id)
    next_cursor = None if found.next_after is None else str(found.next_after)
    return tagged(request, ItemPage(items=found.items, next_cursor=next_cursor))


@router.get("/items", response_model=ItemSearchPage)
def find_items(
    *,
    request: Request,
    database: DatabaseDep,
    reader: ReaderDep,
    which: FilterDep,
    archive: Annotated[
        str | None, Query(max_length=200, pattern=r"^[^\x00]*$", description="an archive's name")
    ] = None,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}(-\d{1,18})?$", description=_NEXT)] = None,
    limit: _Limit = 100,
) -> Response:
    """Find images over all submissions: of a patient, a slide, an archive's files, or of a decision since a moment.

    Name at least one of patient, slide and archive, or decision and after; every other filter narrows that down.
    """
    with database.read() as session:
        page = search_items(session, which, archive, cursor, limit)
    reader.sees("search", *(item.submission_id for item in page.items))
    return tagged(request, page)


@router.get(
    "/submissions/{submission_id}/results.csv",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {}}}},
)
def export_csv(submission_id: str, database: DatabaseDep, reader: ReaderDep, which: FilterDep) -> StreamingResponse:
    """Download all images and their outcomes as CSV. Cells that a spreadsheet would run start with an apostrophe."""
    _check_exists(database, submission_id)
    reader.exports(submission_id, "csv", which)
    lines = write_csv(iter_items(database, submission_id, which))
    return download(lines, "text/csv; charset=utf-8", f"{submission_id}.csv")


@router.get(
    "/submissions/{submission_id}/results.jsonl",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {}}}},
)
def export_jsonl(submission_id: str, database: DatabaseDep, reader: ReaderDep, which: FilterDep) -> StreamingResponse:
    """Download all images and their outcomes as JSON Lines."""
    _check_exists(database, submission_id)
    reader.exports(submission_id, "jsonl", which)
    lines = write_jsonl(iter_items(database, submission_id, which))
    return download(lines, "application/jsonl", f"{submission_id}.jsonl")


@router.get(
    "/submissions/{submission_id}/results.parquet",
    response_class=StreamingResponse,
    responses={200: {"content": {PARQUET: {}}}, 501: {"model": Problem}, 503: {"model": Problem}},
)
def export_parquet(submission_id: str, database: DatabaseDep, reader: ReaderDep, which: FilterDep) -> StreamingResponse:
    """Download all images and their outcomes as Parquet; the file's metadata holds the notice and the models."""
    _check_exists(database, submission_id)
    # Before the turn, which a database that is away would keep.
    reader.exports(submission_id, "parquet", which)
    turn = take_parquet_turn()
    pieces = write_parquet(iter_items(database, submission_id, which), submission_id)
    return HoldingResponse(turn, pieces, media_type=PARQUET, headers=as_file(f"{submission_id}.parquet"))


def download(pieces: Iterator[bytes], media_type: str, name: str) -> StreamingResponse:
    """Stream a file under a name of letters, digits, dots and dashes."""
    return StreamingResponse(pieces, media_type=media_type, headers=as_file(name))


def as_file(name: str) -> dict[str, str]:
    """Make the header by which a browser stores an answer under a name of letters, digits, dots and dashes."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _check_exists(database: Database, submission_id: str) -> None:
    with database.read() as session:
        find_submission(session, submission_id)
