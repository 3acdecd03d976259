"""Pictures as pages show them: where there is none, a drawing that says why, so that no place stays empty."""

import textwrap
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import Path, Request, Response
from markupsafe import escape

from api.context import ContextDep, ReaderDep
from api.etags import tagged_bytes
from api.pages.page_route import make_router
from api.pictures import find_model_version, find_picture
from api.problems import ApiError

router = make_router()

_Kind = Literal["small", "large", "occlusion"]
_DRAWN = {"small": (192, 126, 11, 26), "large": (700, 460, 18, 58), "occlusion": (700, 460, 18, 58)}


@router.get("/submissions/{submission_id}/items/{item_id}/picture/{kind}")
def picture(
    *,
    submission_id: str,
    item_id: Annotated[int, Path(ge=1, lt=2**63)],
    kind: _Kind,
    request: Request,
    context: ContextDep,
    reader: ReaderDep,
) -> Response:
    """Show an image as its thumbnail, its preview or with what its places do to its probability laid over it.

    Where it cannot be shown, a drawing says why.
    """
    with context.database.read() as session:
        found = find_picture(session, submission_id, item_id)
        model_version = find_model_version(session, item_id) if kind == "occlusion" else None
    try:
        if kind == "small":
            data = context.thumbnails.show(found)
        elif model_version is None:
            data = context.thumbnails.preview(found)
        else:
            data = context.thumbnails.preview(found, context.occlusion.explain(found, model_version).effects)
    except ApiError as error:
        headers = {"X-Reason": str(error.reason)}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
        return Response(_draw(kind, error.detail), HTTPStatus.OK, headers, "image/svg+xml")
    reader.sees("picture", submission_id)
    return tagged_bytes(request, data, "image/jpeg")


def _draw(kind: _Kind, detail: str) -> str:
    width, height, letters_px, columns = _DRAWN[kind]
    lines = ["No picture:", *textwrap.wrap(detail, columns)][:6]
    top = height / 2 - (len(lines) - 1) * letters_px * 0.7
    texts = "".join(
        f'<text x="50%" y="{top + number * letters_px * 1.4:.0f}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )
    # Attributes only: the pages' policy lets no style through. The colours can be read on light and dark ground.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<rect width="100%" height="100%" fill="#e9e5ee"/><g fill="#4b4554" font-family="sans-serif" '
        f'font-size="{letters_px}" text-anchor="middle" dominant-baseline="middle">{texts}</g></svg>'
    )
