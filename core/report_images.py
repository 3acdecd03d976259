"""The images that a report shows: a bounded number of each kind, and how many there are."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from sqlalchemy import ColumnElement, Row, and_, exists, func, select
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from core.bundle import Decision
from core.index_walk import walk
from core.paths import readable
from core.tables import Item, Result

MOST_IMAGES = 100
_MOST_EXAMPLES = 10


class ReportImage(BaseModel):
    """An image that someone should look at.

    Attributes:
        is_new: no earlier image has this result: neither this content nor a copy of it was classified before by this
            model.
    """

    item_id: int
    path: str
    decision: Decision
    probability: float
    patient: str | None
    slide: str | None
    magnification: str | None
    model_version: str
    is_new: bool


class ImageList(BaseModel):
    """Images of one decision; total says of how many shown holds the first, and new how many are new."""

    total: int
    new: int
    shown: list[ReportImage]


class FailedImage(BaseModel):
    """An image without a result."""

    item_id: int
    path: str
    detail: str | None


class FailureGroup(BaseModel):
    """Images without a result for one reason; some of them as examples."""

    reason: str
    total: int
    shown: list[FailedImage]


def list_images(session: Session, submission_id: str, decision: Decision, total: int) -> ImageList:
    """List a submission's images of one decision: new ones first, then the most probable."""
    if not total:
        return ImageList(total=0, new=0, shown=[])
    mine = and_(col(Item.submission_id) == submission_id, col(Item.decision) == decision)
    known = _is_known()
    shown, new = _take(session, and_(mine, ~known), MOST_IMAGES, is_new=True)
    if len(shown) < MOST_IMAGES:
        shown += _take(session, and_(mine, known), MOST_IMAGES - len(shown), is_new=False)[0]
    return ImageList(total=total, new=new, shown=shown)


def list_failures(session: Session, submission_id: str, amounts: Mapping[str, int]) -> list[FailureGroup]:
    """List the reasons for which a submission's images have no result, most frequent first, with examples."""
    groups = []
    for reason, total in amounts.items():
        query = select(col(Item.id), col(Item.path), col(Item.detail)).where(col(Item.reason).is_not(None))
        alike = [(col(Item.submission_id), submission_id), (col(Item.reason), reason)]
        rows = session.execute(walk(query, alike, col(Item.id)).limit(_MOST_EXAMPLES))
        shown = [FailedImage(item_id=row.id, path=readable(row.path), detail=row.detail) for row in rows]
        groups.append(FailureGroup(reason=reason, total=total, shown=shown))
    return groups


def _is_known() -> ColumnElement[bool]:
    """Whether an image of an earlier submission has the same result. No clock is asked: those of machines differ."""
    earlier = aliased(Item)
    return exists().where(
        col(earlier.result_id) == col(Item.result_id),
        col(earlier.id) < col(Item.id),
        col(earlier.submission_id) != col(Item.submission_id),
    )


def _take(
    session: Session, condition: ColumnElement[bool], limit: int, *, is_new: bool
) -> tuple[list[ReportImage], int]:
    """Read the most probable images that meet a condition, and how many do."""
    # Materialised, or PostgreSQL goes through all results by probability until it has met enough of the condition.
    candidates = (
        select(col(Item.id), col(Result.probability))
        .join(Result, col(Result.id) == col(Item.result_id))
        .where(condition)
        .cte("candidates")
        .prefix_with("MATERIALIZED")
    )
    by_probability = (candidates.c.probability.desc(), candidates.c.id)
    first = select(candidates.c.id).order_by(*by_probability).limit(limit).subquery()
    columns: list[Any] = [
        col(Item.id),
        col(Item.path),
        col(Item.decision),
        col(Item.patient),
        col(Item.slide),
        col(Item.magnification),
        col(Result.probability),
        col(Result.model_version),
        select(func.count()).select_from(candidates).scalar_subquery().label("amount"),
    ]
    rows = session.execute(
        select(*columns)
        .join(Result, col(Result.id) == col(Item.result_id))
        .where(col(Item.id).in_(select(first.c.id)))
        .order_by(col(Result.probability).desc(), col(Item.id))
    ).all()
    return [_show(row, is_new) for row in rows], rows[0].amount if rows else 0


def _show(row: Row[Any], is_new: bool) -> ReportImage:
    return ReportImage(
        item_id=row.id,
        path=readable(row.path),
        decision=row.decision,
        probability=row.probability,
        patient=row.patient,
        slide=row.slide,
        magnification=row.magnification,
        model_version=row.model_version,
        is_new=is_new,
    )
