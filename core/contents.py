"""What files of an archive hold the same content: moved files, and doubles."""

from dataclasses import dataclass

from sqlalchemy import CTE, ColumnElement, case, exists, func, select
from sqlmodel import Session, col

from core.archive_tables import ArchiveFile, Scan
from core.tables import Item, Result


@dataclass(frozen=True)
class Contents:
    """What a scan found by content.

    Attributes:
        moved: files it took whose content a file had that it found missing.
        duplicates: files it took whose content another file of the archive has; of several that it took at once and
            nobody had before, one counts as the first.
    """

    moved: int = 0
    duplicates: int = 0


def count_contents(session: Session, scan: Scan) -> Contents:
    """Compare the contents of what a scan took with those of the rest of its archive. Reads as much as it took."""
    mine = _taken(scan)
    gone = _gone(scan)
    pairs = case((mine.c.number < gone.c.number, mine.c.number), else_=gone.c.number)
    moved = select(func.sum(pairs)).select_from(mine.join(gone, mine.c.content_hash == gone.c.content_hash))
    first = case((_is_elsewhere(scan, mine.c.content_hash), 0), else_=1)
    doubles = select(func.sum(mine.c.number - first)).select_from(mine)
    return Contents(int(session.execute(moved).scalar() or 0), int(session.execute(doubles).scalar() or 0))


def _taken(scan: Scan) -> CTE:
    """How many of the files that the scan took hold each content."""
    return (
        select(col(Item.content_hash).label("content_hash"), func.count().label("number"))
        .where(col(Item.submission_id) == scan.submission_id, col(Item.content_hash).is_not(None))
        .group_by(col(Item.content_hash))
        .cte("mine")
    )


def _gone(scan: Scan) -> CTE:
    """How many of the files that the scan found missing held each content."""
    return (
        select(col(Item.content_hash).label("content_hash"), func.count().label("number"))
        .join(ArchiveFile, col(ArchiveFile.item_id) == col(Item.id))
        .where(col(ArchiveFile.deleted_by) == scan.id, col(Item.content_hash).is_not(None))
        .group_by(col(Item.content_hash))
        .cte("gone")
    )


def _is_elsewhere(scan: Scan, content_hash: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a file of the archive that is there, and was there before the scan, holds a content."""
    # By way of the results, which are found by content, and from which images are found: images are not by content.
    # One in the other rather than joined, because SQLite would begin with the archive's files, for each content anew.
    is_file = exists().where(
        col(ArchiveFile.item_id) == col(Item.id),
        # No plain comparison, so that the index of images is used and not the archive's.
        col(ArchiveFile.archive_id).concat("") == scan.archive_id,
        col(ArchiveFile.deleted_at).is_(None),
    )
    is_image = exists().where(
        col(Item.result_id) == col(Result.id), col(Item.submission_id) != scan.submission_id, is_file
    )
    return exists().where(col(Result.content_hash) == content_hash, is_image)
