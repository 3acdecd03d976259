"""One image: the picture, what the model says and by which rule, where it came from, and signing it off."""

from http import HTTPStatus
from typing import Annotated

from fastapi import Form, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from api.context import ContextDep, DatabaseDep, ReaderDep
from api.csrf import CheckedForm
from api.image_facts import read_facts
from api.pages.page_route import make_router
from api.pictures import find_picture
from api.problems import ApiError
from api.rendering import render
from api.review_schemas import Note
from api.reviews import record_review
from api.rights import PrincipalDep, needs
from api.serving import read_rules
from core.access import Scope
from core.reviews import MOST_NOTE_CHARACTERS, Verdict

router = make_router()

_ItemId = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("/submissions/{submission_id}/items/{item_id}")
def image_page(
    *,
    submission_id: str,
    item_id: _ItemId,
    request: Request,
    context: ContextDep,
    reader: ReaderDep,
    signed: bool = False,
    occlusion: bool = False,
) -> HTMLResponse:
    """Show all that is known of one image.

    Args:
        signed: whether the reader has just signed it off.
        occlusion: whether to work out, and show, where in the image its probability comes from.
    """
    with context.database.read() as session:
        facts = read_facts(session, submission_id, item_id)
        found = find_picture(session, submission_id, item_id) if occlusion and facts.item.content_hash else None
    reader.sees("page", submission_id)
    model = facts.item.model_version
    explanation, obstacle = None, ""
    if found is not None and model is not None:
        try:
            explanation = context.occlusion.explain(found, model)
        except ApiError as error:
            obstacle = error.detail
    return render(
        request,
        "image.html",
        facts=facts,
        item=facts.item,
        rule=read_rules(context.settings).get(model) if model else None,
        verdicts=list(Verdict),
        most_note=MOST_NOTE_CHARACTERS,
        may_review=request.state.principal.may(Scope.REVIEW),
        signed=signed,
        explanation=explanation,
        obstacle=obstacle,
    )


@router.post("/submissions/{submission_id}/items/{item_id}", dependencies=[needs(Scope.REVIEW), CheckedForm])
def sign_off(
    *,
    submission_id: str,
    item_id: _ItemId,
    request: Request,
    database: DatabaseDep,
    principal: PrincipalDep,
    verdict: Annotated[Verdict, Form()],
    note: Annotated[Note, Form()] = "",
) -> RedirectResponse:
    """Record what the form says, and show the image again with it."""
    record_review(database, submission_id, item_id, (verdict, note), principal.name)
    address = request.url_for("image_page", submission_id=submission_id, item_id=item_id).path
    return RedirectResponse(f"{address}?signed=true#signed", HTTPStatus.SEE_OTHER)
