"""Reading a submission's images page by page, in the order of their ids."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlmodel import Session, col

from api.schemas import ItemPublic
from core.bundle import Decision
from core.database import Database
from core.paths import readable
from core.states import ItemState
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
    Result.probability,
    Result.model_version,
    Result.engine,
    Result.elapsed_ms,
)


@dataclass(frozen=True)
class ItemFilter:
    """Which images are meant; None means any."""

    state: ItemState | None = None
    decision: Decision | None = None
    reason: str | None = None


def read_items(session: Session, submission_id: str, which: ItemFilter, after: int, limit: int) -> list[ItemPublic]:
    """Read up to limit images whose id is above after.

    The query walks one index of (submission, state, decision or reason, id), so a page costs the same wherever it is
    and however rare the images are that it shows.
    """
    query = (
        select(*(col(column) for column in _COLUMNS))
        .outerjoin(Result, col(Result.id) == col(Item.result_id))
        .where(col(Item.submission_id) == submission_id, col(Item.id) > after)
        .order_by(col(Item.id))
        .limit(limit)
    )
    if which.state is not None:
        query = query.where(col(Item.state) == which.state)
    if which.decision is not None:
        query = query.where(col(Item.decision) == which.decision)
    if which.reason is not None:
        query = query.where(col(Item.reason) == which.reason)
    return [
        ItemPublic(
            id=row.id,
            path=readable(row.path),
            path_exact=row.path,
            size=row.size,
            state=row.state,
            decision=row.decision,
            probability=row.probability,
            reason=row.reason,
            detail=row.detail,
            model_version=row.model_version,
            engine=row.engine,
            elapsed_ms=row.elapsed_ms,
            content_hash=row.content_hash,
        )
        for row in session.execute(query)
    ]


def iter_items(
    database: Database, submission_id: str, which: ItemFilter, chunk: int = 1000
) -> Iterator[Sequence[ItemPublic]]:
    """Yield all images in chunks, each read in a transaction of its own.

    One transaction for all would hold back the database's cleaning up for as long as the slowest reader takes.
    """
    after = 0
    while True:
        with database.read() as session:
            items = read_items(session, submission_id, which, after, chunk)
        if items:
            yield items
        if len(items) < chunk:
            return
        after = items[-1].id
