"""/v1/reviews and the reviews of an image: what needs review, what was signed off, and signing off."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query

from api.context import DatabaseDep, ReaderDep
from api.problems import Problem
from api.review_schemas import ReviewCreate, ReviewPage, ReviewStored, UnreviewedPage
from api.reviews import find_item, make_filter, read_item_reviews, read_reviews, read_unreviewed, record_review
from api.rights import PrincipalDep, needs
from core.access import Scope
from core.unreviewed import Kind

router = APIRouter(
    prefix="/v1", tags=["reviews"], responses={404: {"model": Problem}}, dependencies=[needs(Scope.READ)]
)

_Cursor = Annotated[int | None, Query(ge=0, lt=2**63, description="next_cursor of the page before")]
_Text = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]
_Limit = Annotated[int, Query(ge=1, le=200)]
_ItemId = Annotated[int, Path(ge=1, lt=2**63)]


@router.get("/reviews")
def list_reviews(
    database: DatabaseDep, reader: ReaderDep, submission: _Text = None, cursor: _Cursor = None, limit: _Limit = 50
) -> ReviewPage:
    """List reviews, newest first; of images of one submission where it is named."""
    with database.read() as session:
        page = read_reviews(session, submission or None, cursor, limit)
    reader.sees("reviews", *(review.submission_id for review in page.reviews))
    return page


@router.get("/reviews/needed")
def list_needed(
    *,
    database: DatabaseDep,
    reader: ReaderDep,
    kind: Kind | None = None,
    submission: _Text = None,
    archive: _Text = None,
    patient: _Text = None,
    cursor: _Cursor = None,
    limit: _Limit = 50,
) -> UnreviewedPage:
    """List what needs review, newest first: uncertain and malignant images whose result nobody has reviewed."""
    with database.read() as session:
        which = make_filter(session, kind, submission, archive, patient)
        page = read_unreviewed(session, which, cursor, limit)
    reader.sees("reviews needed", *(item.submission_id for item in page.items))
    return page


@router.get("/submissions/{submission_id}/items/{item_id}/reviews")
def list_item_reviews(submission_id: str, item_id: _ItemId, database: DatabaseDep, reader: ReaderDep) -> ReviewPage:
    """List the reviews of an image's result, newest first, also those that were made where it lies elsewhere."""
    with database.read() as session:
        reviews = read_item_reviews(session, find_item(session, submission_id, item_id))
    reader.sees("reviews", submission_id)
    return ReviewPage(reviews=reviews, next_cursor=None)


@router.post(
    "/submissions/{submission_id}/items/{item_id}/reviews",
    status_code=HTTPStatus.CREATED,
    responses={409: {"model": Problem}},
    dependencies=[needs(Scope.REVIEW)],
)
def review(
    submission_id: str, item_id: _ItemId, body: ReviewCreate, database: DatabaseDep, principal: PrincipalDep
) -> ReviewStored:
    """Sign an image's result off. Nothing is overwritten: the newest review of a result counts."""
    return record_review(database, submission_id, item_id, (body.verdict, body.note), principal.name)
