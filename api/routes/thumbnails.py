"""/v1/submissions/{id}/items/{item}/thumbnail and preview: an image as a picture that browsers show."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from api.context import ContextDep, ReaderDep
from api.etags import tagged_bytes
from api.pictures import find_picture
from api.problems import Problem
from api.rights import needs
from core.access import Scope

router = APIRouter(prefix="/v1/submissions", tags=["results"], dependencies=[needs(Scope.READ)])

_ItemId = Annotated[int, Path(ge=1, lt=2**63)]
_JPEG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {}}},
    **{code: {"model": Problem} for code in (404, 410, 503)},
}


@router.get("/{submission_id}/items/{item_id}/thumbnail", response_class=Response, responses=_JPEG)
def show_thumbnail(
    submission_id: str, item_id: _ItemId, request: Request, context: ContextDep, reader: ReaderDep
) -> Response:
    """Show an image as a JPEG of at most 192 pixels a side.

    Made from the file when it is asked for, and only if the file still has the content that was classified: 410 where
    it has not, is gone, or cannot be decoded.
    """
    with context.database.read() as session:
        picture = find_picture(session, submission_id, item_id)
    data = context.thumbnails.show(picture)
    reader.sees("picture", submission_id)
    return tagged_bytes(request, data, "image/jpeg")


@router.get("/{submission_id}/items/{item_id}/preview", response_class=Response, responses=_JPEG)
def show_preview(
    submission_id: str, item_id: _ItemId, request: Request, context: ContextDep, reader: ReaderDep
) -> Response:
    """Show an image as a JPEG of at most 1,280 pixels a side, by the same rules as a thumbnail."""
    with context.database.read() as session:
        picture = find_picture(session, submission_id, item_id)
    data = context.thumbnails.preview(picture)
    reader.sees("picture", submission_id)
    return tagged_bytes(request, data, "image/jpeg")
