"""Finding images over all submissions: of a patient, a slide, an archive, or of a decision since a moment."""

from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, exists, or_
from sqlmodel import Session, col, select

from api.item_filter import ItemFilter
from api.items import item_fields, select_items
from api.problems import ApiError, ProblemReason, not_found
from api.schemas import ItemFound, ItemSearchPage
from core.archive_tables import Archive, ArchiveFile
from core.bundle import Decision
from core.index_walk import walk
from core.tables import Item, Result

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def search_items(
    session: Session, which: ItemFilter, archive: str | None, cursor: str | None, limit: int
) -> ItemSearchPage:
    """Read one page of the images that are meant. Each kind of search walks an index, in that index's order.

    Args:
        archive: name of an archive, of whose files that are there now the last images are meant.

    Raises:
        ApiError: nothing narrows the search down (422), or there is no such archive (404).
    """
    archive_id = None if archive is None else find_archive_id(session, archive)
    query = select_items().add_columns(col(Item.submission_id)).where(*which.conditions())
    if which.patient is not None or which.slide is not None:
        query, cursor_of = _by_item(query, archive_id, cursor), _item_cursor
    elif archive_id is not None:
        query, cursor_of = _by_file(query, archive_id, cursor), _file_cursor
    elif which.decision is not None and which.after is not None:
        query, cursor_of = _by_moment(query, which.decision, cursor), _moment_cursor
    else:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            ProblemReason.REQUEST_INVALID,
            "name what is looked for: patient, slide, archive, or decision with after",
        )
    rows = session.execute(query.limit(limit + 1)).all()
    shown = rows[:limit]
    return ItemSearchPage(
        items=[ItemFound(**item_fields(row), submission_id=row.submission_id) for row in shown],
        next_cursor=cursor_of(shown[-1]) if len(rows) > limit else None,
    )


def find_archive_id(session: Session, name: str) -> str:
    """Find an archive by its name.

    Raises:
        ApiError: there is none (404).
    """
    archive_id = session.exec(select(Archive.id).where(Archive.name == name)).one_or_none()
    if archive_id is None:
        raise not_found("archive")
    return archive_id


def _by_item(query: Select[Any], archive_id: str | None, cursor: str | None) -> Select[Any]:
    if archive_id is not None:
        query = query.where(exists().where(col(ArchiveFile.item_id) == col(Item.id), *_is_there(archive_id)))
    return query.where(col(Item.id) > _numbers(cursor)[0]).order_by(col(Item.id))


def _by_file(query: Select[Any], archive_id: str, cursor: str | None) -> Select[Any]:
    query = query.add_columns(col(ArchiveFile.id).label("position"))
    query = query.join(ArchiveFile, col(ArchiveFile.item_id) == col(Item.id)).where(*_is_there(archive_id))
    return walk(query, [(col(ArchiveFile.archive_id), archive_id)], col(ArchiveFile.id), above=_numbers(cursor)[0])


def _by_moment(query: Select[Any], decision: Decision, cursor: str | None) -> Select[Any]:
    # The image's decision is a copy of the result's, whose index goes on by time.
    query = query.where(col(Result.decision) == decision).order_by(col(Result.created_at), col(Item.id))
    if cursor is None:
        return query
    moment, item_id = _EPOCH + _numbers(cursor)[0] * _MICROSECOND, _numbers(cursor)[1]
    return query.where(
        col(Result.created_at) >= moment,
        or_(col(Result.created_at) > moment, and_(col(Result.created_at) == moment, col(Item.id) > item_id)),
    )


def _is_there(archive_id: str) -> list[ColumnElement[bool]]:
    return [col(ArchiveFile.archive_id) == archive_id, col(ArchiveFile.deleted_at).is_(None)]


def _numbers(cursor: str | None) -> tuple[int, int]:
    """Take a cursor apart: a position, and the image's id where positions are moments."""
    position, _, item_id = (cursor or "0").partition("-")
    return int(position), int(item_id or 0)


def _item_cursor(row: Row[Any]) -> str:
    return str(row.id)


def _file_cursor(row: Row[Any]) -> str:
    return str(row.position)


def _moment_cursor(row: Row[Any]) -> str:
    return f"{(row.created_at - _EPOCH) // _MICROSECOND}-{row.id}"
