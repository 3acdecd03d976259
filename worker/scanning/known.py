"""What the database holds of an archive's folders, read for several of them at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Row, Table, bindparam, case, func, select
from sqlmodel import Session, col

from core.archive_tables import ArchiveFile, ArchiveFolder
from core.index_walk import BEYOND, walk
from core.tables import Item
from worker.scanning.walking import UNREADABLE, Listing, order

_IS_THERE = col(ArchiveFile.deleted_at).is_(None)
_PAGE = 1000

_FILES: Table = ArchiveFile.__table__  # type: ignore[attr-defined]
# Without the ORM, which costs as much as all the rest for each row.
_FILES_OF = select(_FILES.c.folder_id, _FILES.c.name, _FILES.c.size, _FILES.c.mtime_ns).where(
    _FILES.c.folder_id.in_(bindparam("folder_ids", expanding=True)), _FILES.c.deleted_at.is_(None)
)
FileRow = Row[int, str, int, int]


@dataclass(frozen=True)
class Known:
    """What is stored of some folders.

    Attributes:
        ids: of the folders that are stored, by path.
        files: folder_id, name, size and mtime_ns of each file that was there.
        below: paths of the folders stored directly below each, with their ids, by the id above.
    """

    ids: dict[str, int]
    files: Sequence[FileRow] = ()
    below: dict[int, list[tuple[str, int]]] = field(default_factory=dict)


def read_known(session: Session, archive_id: str, listings: Sequence[Listing]) -> Known:
    """Read what is stored of folders, in three questions however many they are."""
    paths = [listing.path for listing in listings]
    mine = (col(ArchiveFolder.archive_id) == archive_id, col(ArchiveFolder.path).in_(paths))
    folders = session.execute(select(col(ArchiveFolder.path), col(ArchiveFolder.id)).where(*mine))
    ids: dict[str, int] = {path: folder_id or 0 for path, folder_id in folders}
    if not ids:
        return Known(ids)
    files = session.connection().execute(_FILES_OF, {"folder_ids": list(ids.values())}).all()
    known = Known(ids, files)
    below = select(col(ArchiveFolder.parent_id), col(ArchiveFolder.path), col(ArchiveFolder.id))
    for parent_id, path, folder_id in session.execute(below.where(col(ArchiveFolder.parent_id).in_(ids.values()))):
        known.below.setdefault(parent_id or 0, []).append((path, folder_id or 0))
    return known


def count_below(session: Session, folder_ids: Sequence[int]) -> tuple[int, int]:
    """Count the files that are stored as there in folders and all below them: all of them, and the readable ones."""
    is_readable = case((col(ArchiveFile.size) != UNREADABLE, 1), else_=0)
    counts = select(func.count(), func.sum(is_readable)).select_from(ArchiveFile)
    stored, readable = session.execute(counts.where(in_subtrees(folder_ids), _IS_THERE)).one()
    return int(stored), int(readable or 0)


def in_subtrees(folder_ids: Sequence[int]) -> ColumnElement[bool]:
    """Condition for files in folders and all below them."""
    tree = select(col(ArchiveFolder.id)).where(col(ArchiveFolder.id).in_(folder_ids)).cte("tree", recursive=True)
    tree = tree.union_all(select(col(ArchiveFolder.id)).join(tree, col(ArchiveFolder.parent_id) == tree.c.id))
    return col(ArchiveFile.folder_id).in_(select(tree.c.id))


def has_files(session: Session, archive_id: str) -> bool:
    """Whether any file of an archive is stored as there."""
    mine = (col(ArchiveFile.archive_id) == archive_id, _IS_THERE, col(ArchiveFile.size) != UNREADABLE)
    return session.execute(select(1).select_from(ArchiveFile).where(*mine).limit(1)).first() is not None


def count_files(session: Session, archive_id: str) -> int:
    """How many files of an archive are stored as there."""
    mine = (col(ArchiveFile.archive_id) == archive_id, _IS_THERE, col(ArchiveFile.size) != UNREADABLE)
    return int(session.execute(select(func.count()).select_from(ArchiveFile).where(*mine)).scalar_one())


def read_recorded(session: Session, submission_id: str, position: str | None) -> frozenset[str]:
    """Paths that a scan recorded behind its position before it was interrupted: they are counted already."""
    behind = None if position is None else order(position)
    recorded: set[str] = set()
    for path in _newest_paths(session, submission_id):
        # In the order of the walk, so that the first that is not behind ends the search.
        if behind is not None and order(path.rpartition("/")[0]) <= behind:
            break
        recorded.add(path)
    return frozenset(recorded)


def _newest_paths(session: Session, submission_id: str) -> Iterator[str]:
    mine = [(col(Item.submission_id), submission_id)]
    last = BEYOND
    while True:
        query = walk(select(col(Item.id), col(Item.path)), mine, col(Item.id), below=last, newest_first=True)
        page = session.execute(query.limit(_PAGE)).all()
        yield from (path for _, path in page)
        if len(page) < _PAGE:
            return
        last = page[-1][0]
