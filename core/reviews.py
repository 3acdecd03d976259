"""Reviews: what people say of what the model said. Rows are only added; the newest of a result counts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ScalarSelect, delete, func, select, update
from sqlmodel import Session, col

from core.audit import record
from core.database import execute_dml
from core.errors import PermanentError
from core.review_tables import Review
from core.tables import Item, Result, Submission

MOST_NOTE_CHARACTERS = 2000


class Verdict(StrEnum):
    """What a person says of an image."""

    BENIGN = "benign"
    MALIGNANT = "malignant"
    UNDECIDED = "undecided"
    """Looked at, and the picture does not tell."""


class NothingToReview(PermanentError):
    """The image has no result."""

    def __init__(self) -> None:
        super().__init__("the image has no result that could be reviewed: wait for it, or see why it has none")


@dataclass(frozen=True)
class ReviewSlice:
    """A page of reviews, newest first; the next one begins below next_before, None at the end."""

    reviews: Sequence[Review]
    next_before: int | None


def sign_off(session: Session, item: Item, verdict: Verdict, note: str, reviewer: str) -> Review:
    """Record what a person says of an image's result, and note in the audit who did; the note is not in the audit.

    Raises:
        NothingToReview: the image has no result.
    """
    # Retention waits: it must not take the image away, or the notes, while another one is written.
    session.execute(select(col(Submission.id)).where(col(Submission.id) == item.submission_id).with_for_update())
    if item.id is None or item.result_id is None or item.decision is None:
        raise NothingToReview
    review = Review(
        result_id=item.result_id,
        item_id=item.id,
        submission_id=item.submission_id,
        reviewer=reviewer,
        said=item.decision,
        verdict=verdict,
        note=note,
    )
    session.add(review)
    session.flush()
    seen = {"result": item.result_id, "item": item.id, "submission": item.submission_id}
    record(session, reviewer, "review.create", str(review.id), {**seen, "said": review.said, "verdict": verdict})
    return review


def read_history(session: Session, result_id: int) -> Sequence[Review]:
    """All reviews of a result, newest first."""
    query = select(Review).where(col(Review.result_id) == result_id).order_by(col(Review.id).desc())
    return session.scalars(query).all()


def find_verdict() -> ScalarSelect[str]:
    """The newest verdict on an Item's result as a column of a query; it costs one step in an index for each row."""
    return (
        select(col(Review.verdict))
        .where(col(Review.result_id) == col(Item.result_id))
        .order_by(col(Review.id).desc())
        .limit(1)
        .correlate(Item)
        .scalar_subquery()
    )


def list_reviews(session: Session, submission_id: str | None, before: int, limit: int) -> ReviewSlice:
    """Read up to limit reviews whose id is below before, those seen in one submission only or all."""
    query = select(Review).where(col(Review.id) < before).order_by(col(Review.id).desc()).limit(limit + 1)
    if submission_id is not None:
        query = query.where(col(Review.submission_id) == submission_id)
    found = session.scalars(query).all()
    return ReviewSlice(found[:limit], found[limit - 1].id if len(found) > limit else None)


def find_superseded(session: Session, reviews: Iterable[Review]) -> set[int]:
    """Ids of those reviews that a later one of the same result supersedes."""
    newest = set(
        session.scalars(
            select(func.max(col(Review.id)))
            .where(col(Review.result_id).in_({review.result_id for review in reviews}))
            .group_by(col(Review.result_id))
        )
    )
    return {review.id for review in reviews if review.id is not None and review.id not in newest}


def forget_notes(session: Session, submission_id: str) -> None:
    """Clear the notes that were written in view of a submission: they may name whom its images are of."""
    noted = (col(Review.submission_id) == submission_id, col(Review.note) != "")
    execute_dml(session, update(Review).where(*noted).values(note=""))


def forget_reviews(session: Session, result_ids: Sequence[int | None]) -> None:
    """Delete the reviews of those results that are gone."""
    is_gone = ~select(col(Result.id)).where(col(Result.id) == col(Review.result_id)).exists()
    execute_dml(session, delete(Review).where(col(Review.result_id).in_(result_ids), is_gone))
