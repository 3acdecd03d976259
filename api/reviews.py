"""Reading and recording reviews in the wire format."""

from collections.abc import Sequence
from http import HTTPStatus

from sqlmodel import Session, col

from api.item_search import find_archive_id
from api.items import item_fields, select_items
from api.problems import ApiError, ProblemReason, not_found
from api.review_schemas import ReviewPage, ReviewPublic, ReviewStored, UnreviewedPage
from api.schemas import ItemFound
from api.submissions import find_submission
from core.database import Database
from core.index_walk import BEYOND
from core.review_tables import Review
from core.reviews import NothingToReview, Verdict, find_superseded, list_reviews, read_history, sign_off
from core.tables import Item
from core.unreviewed import Kind, UnreviewedFilter, find_unreviewed


def find_item(session: Session, submission_id: str, item_id: int) -> Item:
    """Find an image of a submission.

    Raises:
        ApiError: there is none (404).
    """
    find_submission(session, submission_id)
    item = session.get(Item, item_id)
    if item is None or item.submission_id != submission_id:
        raise not_found("image")
    return item


def record_review(
    database: Database, submission_id: str, item_id: int, review: tuple[Verdict, str], reviewer: str
) -> ReviewStored:
    """Record a verdict and a note on an image's result.

    Raises:
        ApiError: there is no such image (404), or it has no result (409).
    """
    with database.write() as session:
        item = find_item(session, submission_id, item_id)
        try:
            stored = sign_off(session, item, *review, reviewer)
        except NothingToReview as error:
            raise ApiError(HTTPStatus.CONFLICT, ProblemReason.NOTHING_TO_REVIEW, str(error)) from error
        return ReviewStored(**describe_reviews(session, [stored])[0].model_dump())


def describe_reviews(session: Session, reviews: Sequence[Review]) -> list[ReviewPublic]:
    """Put reviews into the wire format."""
    superseded = find_superseded(session, reviews)
    return [ReviewPublic(**review.model_dump(), superseded=review.id in superseded) for review in reviews]


def read_item_reviews(session: Session, item: Item) -> list[ReviewPublic]:
    """Read all reviews of an image's result, newest first."""
    return [] if item.result_id is None else describe_reviews(session, read_history(session, item.result_id))


def read_reviews(session: Session, submission_id: str | None, cursor: int | None, limit: int) -> ReviewPage:
    """Read one page of reviews, newest first."""
    found = list_reviews(session, submission_id, BEYOND if cursor is None else cursor, limit)
    next_cursor = None if found.next_before is None else str(found.next_before)
    return ReviewPage(reviews=describe_reviews(session, found.reviews), next_cursor=next_cursor)


def read_unreviewed(session: Session, which: UnreviewedFilter, cursor: int | None, limit: int) -> UnreviewedPage:
    """Read one page of images whose result needs review, newest first."""
    found = find_unreviewed(session, which, BEYOND if cursor is None else cursor, limit)
    query = select_items().add_columns(col(Item.submission_id)).where(col(Item.id).in_(found.item_ids))
    rows = session.execute(query.order_by(col(Item.id).desc()))
    return UnreviewedPage(
        items=[ItemFound(**item_fields(row), submission_id=row.submission_id) for row in rows],
        next_cursor=None if found.next_before is None else str(found.next_before),
    )


def make_filter(
    session: Session, kind: Kind | None, submission_id: str | None, archive: str | None, patient: str | None
) -> UnreviewedFilter:
    """Make a filter of what a query names; empty text means any.

    Raises:
        ApiError: there is no such submission or archive (404).
    """
    return UnreviewedFilter(
        kind=kind,
        submission_id=find_submission(session, submission_id).id if submission_id else None,
        archive_id=find_archive_id(session, archive) if archive else None,
        patient=patient or None,
    )
