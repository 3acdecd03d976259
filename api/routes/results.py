"""/v1/results and /v1/models: what models say of a content, and which models there are."""

from typing import Annotated

from fastapi import APIRouter, Path
from sqlmodel import col, select

from api.context import DatabaseDep, SettingsDep
from api.problems import Problem, not_found
from api.schemas import ModelList, ResultList, ResultPublic
from api.serving import list_models
from core.tables import Result

router = APIRouter(prefix="/v1", tags=["results"])


@router.get("/results/{content_hash}", responses={404: {"model": Problem}})
def show_results(
    content_hash: Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="BLAKE3 of the file's bytes")],
    database: DatabaseDep,
) -> ResultList:
    """Show what every model said of one image content, newest first."""
    with database.read() as session:
        query = select(Result).where(col(Result.content_hash) == content_hash).order_by(col(Result.id).desc())
        results = [ResultPublic.model_validate(row, from_attributes=True) for row in session.exec(query)]
    if not results:
        raise not_found("result")
    return ResultList(results=results)


@router.get("/models")
def show_models(settings: SettingsDep) -> ModelList:
    """List the model bundles on this machine: how good each is and how that was found out, and which one serves."""
    return ModelList(models=list_models(settings))
