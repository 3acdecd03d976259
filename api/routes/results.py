"""/v1/results: what models say of a content."""

from typing import Annotated

from fastapi import APIRouter, Path
from sqlmodel import col, select

from api.context import DatabaseDep, ReaderDep
from api.problems import Problem, not_found
from api.rights import needs
from api.schemas import ResultList, ResultPublic
from core.access import Scope
from core.tables import Result

router = APIRouter(prefix="/v1", tags=["results"], dependencies=[needs(Scope.READ)])


@router.get("/results/{content_hash}", responses={404: {"model": Problem}})
def show_results(
    content_hash: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="BLAKE3 of the file's bytes")],
    database: DatabaseDep,
    reader: ReaderDep,
) -> ResultList:
    """Show what every model said of one image content, newest first."""
    with database.read() as session:
        query = select(Result).where(col(Result.content_hash) == content_hash).order_by(col(Result.id).desc())
        results = [ResultPublic.model_validate(row, from_attributes=True) for row in session.exec(query)]
    if not results:
        raise not_found("result")
    reader.sees_content(content_hash)
    return ResultList(results=results)
