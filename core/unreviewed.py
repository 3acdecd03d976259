"""What needs review: results that are uncertain or malignant and that nobody signed off, newest image first.

A result is shown once, with the newest image that has it. A look goes through an index of such images from the newest
on and leaves out what was reviewed; it looks at a bounded number, so that it stays fast however many were.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import ColumnElement, Select, distinct, func, select, text
from sqlalchemy.orm import aliased
from sqlmodel import Session, col

from core.archive_tables import Scan
from core.index_walk import BEYOND, walk
from core.review_tables import Review
from core.tables import TO_REVIEW, Item

Kind = Literal["malignant", "uncertain"]
KINDS: tuple[Kind, ...] = get_args(Kind)
# Images of a kind that are looked at in one query, and for one page.
_WINDOW = 1000
_MOST = 3000
_MOST_COUNTED = 1000
_COUNTED = 3000


@dataclass(frozen=True, kw_only=True)
class UnreviewedFilter:
    """Which images are meant; None means any."""

    kind: Kind | None = None
    submission_id: str | None = None
    archive_id: str | None = None
    patient: str | None = None


@dataclass(frozen=True)
class Unreviewed:
    """A page of images that need review, newest first.

    Attributes:
        next_before: the next page begins below this id; None at the end. A page may be short, and not the last.
    """

    item_ids: list[int]
    next_before: int | None


@dataclass(frozen=True)
class Amount:
    """How many there are; where there may be more than that, more is true."""

    number: int
    more: bool

    def __str__(self) -> str:
        return f"{self.number:,}{'+' if self.more else ''}"


def find_unreviewed(session: Session, which: UnreviewedFilter, before: int, limit: int) -> Unreviewed:
    """Find up to limit images that need review and whose id is below before."""
    found: list[int] = []
    looked_at = 0
    while True:
        ids, floor = _look(session, which, before, limit + 1 - len(found))
        found += ids
        looked_at += _WINDOW
        if len(found) > limit:
            return Unreviewed(found[:limit], found[limit - 1])
        if floor is None or looked_at >= _MOST:
            return Unreviewed(found, floor)
        before = floor


def count_unreviewed(session: Session, which: UnreviewedFilter) -> Amount:
    """Count what needs review, up to a thousand results, among the newest few thousand images of each kind."""
    number, is_whole = 0, True
    for kind in KINDS if which.kind is None else (which.kind,):
        candidates = _select_candidates(kind, which, BEYOND)
        window = candidates.limit(_COUNTED).subquery()
        counted = select(func.count(distinct(window.c.result_id))).where(*_is_meant(window.c, which))
        number += session.execute(counted).scalar_one()
        is_whole = is_whole and session.execute(candidates.offset(_COUNTED).limit(1)).first() is None
    return Amount(min(number, _MOST_COUNTED), not is_whole or number > _MOST_COUNTED)


def _look(session: Session, which: UnreviewedFilter, before: int, limit: int) -> tuple[list[int], int | None]:
    """Look through one window of each kind; returns images, and the id down to which all kinds were looked through."""
    kinds = KINDS if which.kind is None else (which.kind,)
    walks = [_walk(session, kind, which, before, limit) for kind in kinds]
    floors = [floor for _, floor in walks if floor is not None]
    if not floors:
        return sorted((item_id for ids, _ in walks for item_id in ids), reverse=True), None
    floor = max(floors)
    return sorted((item_id for ids, _ in walks for item_id in ids if item_id >= floor), reverse=True), floor


def _walk(
    session: Session, kind: Kind, which: UnreviewedFilter, before: int, limit: int
) -> tuple[list[int], int | None]:
    """Look through one window of a kind; returns images, and the id down to which it went, None for the end."""
    candidates = _select_candidates(kind, which, before)
    window = candidates.limit(_WINDOW).subquery()
    needed = (*_is_meant(window.c, which), _is_newest(window.c, which))
    query = select(window.c.id).where(*needed).order_by(window.c.id.desc()).limit(limit)
    ids = [int(item_id) for item_id in session.scalars(query)]
    if len(ids) == limit:
        return ids, ids[-1]
    return ids, session.execute(candidates.offset(_WINDOW - 1).limit(1)).scalar()


def _select_candidates(kind: Kind, which: UnreviewedFilter, before: int) -> Select[Any]:
    columns: list[Any] = [col(Item.id), col(Item.result_id), col(Item.submission_id), col(Item.patient)]
    query = select(*columns)
    if which.submission_id is not None and which.patient is None:
        alike = [(col(Item.submission_id), which.submission_id), (col(Item.decision), kind)]
        return walk(query, alike, col(Item.id), below=before, newest_first=True)
    query = query.where(col(Item.decision) == kind, col(Item.id) < before).order_by(col(Item.id).desc())
    if which.submission_id is not None:
        query = query.where(col(Item.submission_id) == which.submission_id)
    if which.patient is not None:
        return query.where(col(Item.patient) == which.patient)
    # SQLite takes the index of these only where its condition is repeated word for word. Where a patient is named, the
    # index of patients is better.
    return query.where(text(TO_REVIEW))


def _is_meant(item: Any, which: UnreviewedFilter) -> list[ColumnElement[bool]]:
    """Whether nobody reviewed an image's result, and it belongs to the archive that is named."""
    conditions = [_is_none(select(col(Review.id)).where(col(Review.result_id) == item.result_id))]
    if which.archive_id is not None:
        conditions.append(item.submission_id.in_(_select_scanned(which.archive_id)))
    return conditions


def _is_newest(item: Any, which: UnreviewedFilter) -> ColumnElement[bool]:
    """Whether no newer image among those that are meant has the same result."""
    newer = aliased(Item)
    is_shown_newer = [col(newer.result_id) == item.result_id, col(newer.id) > item.id]
    # Through functions, so that SQLite does not take an index of these two: by the result there are few images.
    submission_id, patient = func.coalesce(newer.submission_id, ""), func.coalesce(newer.patient, "")
    if which.submission_id is not None:
        is_shown_newer.append(submission_id == which.submission_id)
    if which.patient is not None:
        is_shown_newer.append(patient == which.patient)
    if which.archive_id is not None:
        is_shown_newer.append(submission_id.in_(_select_scanned(which.archive_id)))
    return _is_none(select(col(newer.id)).where(*is_shown_newer).order_by(col(newer.id).desc()))


def _is_none(query: Select[Any]) -> ColumnElement[bool]:
    """Whether a query finds nothing, asked row by row: PostgreSQL would make a NOT EXISTS a join with all images."""
    return query.limit(1).scalar_subquery().is_(None)


def _select_scanned(archive_id: str) -> Select[Any]:
    return select(col(Scan.submission_id)).where(col(Scan.archive_id) == archive_id)
