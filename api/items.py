"""Reading a submission's images page by page, in the order of their ids."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, Select, SQLColumnExpression, select
from sqlmodel import Session, col

from api.item_filter import ItemFilter
from api.schemas import ItemPublic
from core.database import Database
from core.index_walk import BEYOND, walk
from core.paths import readable
from core.reviews import find_verdict
from core.tables import Item, Result

_COLUMNS = (
    Item.id,
    Item.path,
    Item.size,
    Item.state,
    Item.decision,
    Item.reason,
    Item.detail,
    Item.content_hash,
    Item.patient,
    Item.slide,
    Item.magnification,
    Result.probability,
    Result.model_version,
    Result.engine,
    Result.elapsed_ms,
    Result.created_at,
)


# Images that are looked at for one page where no index finds those that are meant: some 10 ms at most.
_WINDOW = 1000


@dataclass(frozen=True)
class ItemSlice:
    """A page of images; the next one begins behind next_after, None at the end."""

    items: list[ItemPublic]
    next_after: int | None


def read_items(session: Session, submission_id: str, which: ItemFilter, after: int, limit: int) -> ItemSlice:
    """Read up to limit images whose id is above after.

    By state, decision, reason or patient the query walks an index of the submission, so a page costs the same wherever
    it is and however rare the images are that it shows. By model, probability or time it looks at a bounded number of
    images, so a page may hold fewer than limit, or none, and not be the last.
    """
    window_end = _find_window_end(session, submission_id, which, after) if which.result_conditions() else None
    below = BEYOND if window_end is None else window_end + 1
    query = _walk(select_items(), submission_id, which, after, below).where(*which.result_conditions())
    items = [ItemPublic(**item_fields(row)) for row in session.execute(query.limit(limit + 1))]
    shown = items[:limit]
    return ItemSlice(shown, shown[-1].id if len(items) > limit else window_end)


def iter_items(
    database: Database, submission_id: str, which: ItemFilter, chunk: int = 500
) -> Iterator[Sequence[ItemPublic]]:
    """Yield all images in chunks, each read in a transaction of its own.

    One transaction for all would hold back the database's cleaning up for as long as the slowest reader takes.
    """
    after: int | None = 0
    while after is not None:
        with database.read() as session:
            found = read_items(session, submission_id, which, after, chunk)
        if found.items:
            yield found.items
        after = found.next_after


def _find_window_end(session: Session, submission_id: str, which: ItemFilter, after: int) -> int | None:
    """The id of the last image that is looked at; None where all that are left may be."""
    beyond = _walk(select(col(Item.id)), submission_id, which, after).offset(_WINDOW - 1).limit(1)
    return session.execute(beyond).scalar()


def _walk(query: Select[Any], submission_id: str, which: ItemFilter, after: int, below: int = BEYOND) -> Any:
    """Narrow a query down to what is asked of images between two ids, in the order of these."""
    query = query.where(*which.item_conditions())
    if which.patient is not None or which.slide is not None:
        # Few, which the index of a submission's patients and slides finds.
        mine = (col(Item.submission_id) == submission_id, col(Item.id) > after, col(Item.id) < below)
        return query.where(*mine).order_by(col(Item.id))
    alike: list[tuple[SQLColumnExpression[Any], str]] = [(col(Item.submission_id), submission_id)]
    if which.reason is not None:
        # The index of reasons holds images with one only.
        query = query.where(col(Item.reason).is_not(None))
        alike.append((col(Item.reason), which.reason))
    elif which.decision is not None:
        alike.append((col(Item.decision), which.decision))
    elif which.state is not None:
        alike.append((col(Item.state), which.state))
    return walk(query, alike, col(Item.id), above=after, below=below)


def select_items() -> Select[Any]:
    """Begin a query of images with their results, for item_fields."""
    columns: list[Any] = [col(column) for column in _COLUMNS]
    return select(*columns, find_verdict().label("verdict")).outerjoin(Result, col(Result.id) == col(Item.result_id))


def item_fields(row: Row[Any]) -> dict[str, Any]:
    """Turn a row of select_items into the fields of an ItemPublic."""
    return {
        "id": row.id,
        "path": readable(row.path),
        "path_exact": row.path,
        "size": row.size,
        "state": row.state,
        "decision": row.decision,
        "probability": row.probability,
        "reason": row.reason,
        "detail": row.detail,
        "patient": row.patient,
        "slide": row.slide,
        "magnification": row.magnification,
        "model_version": row.model_version,
        "engine": row.engine,
        "elapsed_ms": row.elapsed_ms,
        "content_hash": row.content_hash,
        "classified_at": row.created_at,
        "verdict": row.verdict,
    }
