"""Write what a scan found: items in batches, the files as they are now, and how far the scan came."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from sqlalchemy import Table, insert, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from core.archive_tables import ArchiveFile, ArchiveFolder, Scan
from core.database import execute_dml
from core.labels import Labels
from core.tables import Item, Submission, utc_now
from worker.listing_lease import hold
from worker.recording import add_batch, item_row
from worker.scanning.comparing import Counts, Difference, Found
from worker.scanning.known import in_subtrees

_FILES: Table = ArchiveFile.__table__  # type: ignore[attr-defined]
_FOLDERS: Table = ArchiveFolder.__table__  # type: ignore[attr-defined]
# Names in one statement.
_AT_ONCE = 500


@dataclass(frozen=True)
class Labelled:
    """A file to record, and what its name or the manifest says of it."""

    found: Found
    labels: Labels


def record_found(session: Session, submission: Submission, scan_id: str, files: Sequence[Labelled]) -> bool:
    """Record files of a scan as one batch of items; False where that was done already.

    The caller may repeat the transaction, not knowing whether it was committed.

    Raises:
        ListingEnded: the submission is not this worker's any more.
    """
    hold(session, submission)
    first = files[0].found.entry.path
    if session.exec(select(Item.id).where(Item.submission_id == submission.id, Item.path == first)).first():
        return False
    batch = add_batch(session, submission, [file.found.entry for file in files])
    rows = [item_row(batch, file.found.entry, file.labels) for file in files]
    ids = session.scalars(insert(Item).returning(col(Item.id), sort_by_parameter_order=True), rows).all()
    scan = session.get_one(Scan, scan_id)
    folder_ids = _store_folders(session, scan.archive_id, sorted({file.found.folder for file in files}))
    _store_files(
        session,
        [
            {
                "archive_id": scan.archive_id,
                "folder_id": folder_ids[file.found.folder],
                "name": file.found.name,
                "size": file.found.size,
                "mtime_ns": file.found.mtime_ns,
                "item_id": item_id,
            }
            for file, item_id in zip(files, ids, strict=True)
        ],
    )
    counts = Counts(seen=len(files))
    for file in files:
        setattr(counts, file.found.kind, getattr(counts, file.found.kind) + 1)
    _count(session, scan_id, counts)
    return True


def record_position(
    session: Session, submission: Submission, scan_id: str, before: str | None, difference: Difference
) -> None:
    """Note that all folders up to a position are compared, with what is gone from them and all counts.

    Args:
        before: the position until now: where it is another, this was done already.

    Raises:
        ListingEnded: the submission is not this worker's any more.
    """
    hold(session, submission)
    behind = col(Scan.position).is_(None) if before is None else col(Scan.position) == before
    moved = update(Scan).where(col(Scan.id) == scan_id, behind).values(position=difference.position)
    if not execute_dml(session, moved):
        return
    _count(session, scan_id, difference.counts)
    deleted = {"deleted_at": utc_now(), "deleted_by": scan_id}
    is_there = col(ArchiveFile.deleted_at).is_(None)
    for folder_id, group in groupby(difference.gone, key=lambda one: one[0]):
        names = [name for _, name in group]
        for first in range(0, len(names), _AT_ONCE):
            some = col(ArchiveFile.name).in_(names[first : first + _AT_ONCE])
            mine = col(ArchiveFile.folder_id) == folder_id
            execute_dml(session, update(ArchiveFile).where(mine, some, is_there).values(**deleted))
    for first in range(0, len(difference.gone_folders), _AT_ONCE):
        below = in_subtrees(difference.gone_folders[first : first + _AT_ONCE])
        execute_dml(session, update(ArchiveFile).where(below, is_there).values(**deleted))


def _count(session: Session, scan_id: str, counts: Counts) -> None:
    values = {name: getattr(Scan, name) + number for name, number in asdict(counts).items() if number}
    if values:
        execute_dml(session, update(Scan).where(col(Scan.id) == scan_id).values(**values))


def _store_folders(session: Session, archive_id: str, paths: Sequence[str]) -> dict[str, int]:
    """Find or make the rows of folders and of all above them; ids by path."""
    wanted = sorted({above for path in paths for above in _with_above(path)}, key=_depth)
    mine = (ArchiveFolder.archive_id == archive_id, col(ArchiveFolder.path).in_(wanted))
    found = session.exec(select(ArchiveFolder.path, ArchiveFolder.id).where(*mine))
    ids = {path: folder_id or 0 for path, folder_id in found}
    # One level after the other, because each needs the ids of the one above; no other scan of the archive runs.
    for _, level in groupby((path for path in wanted if path not in ids), key=_depth):
        rows = [{"archive_id": archive_id, "path": path, "parent_id": _parent(ids, path)} for path in level]
        stored = session.execute(insert(_FOLDERS).returning(_FOLDERS.c.path, _FOLDERS.c.id), rows)
        ids |= {row.path: row.id for row in stored}
    return ids


def _store_files(session: Session, rows: Sequence[dict[str, Any]]) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    statement = dialect.insert(_FILES)
    taken = {name: statement.excluded[name] for name in ("size", "mtime_ns", "item_id")}
    there = {"deleted_at": None, "deleted_by": None}
    session.execute(statement.on_conflict_do_update(index_elements=["folder_id", "name"], set_=taken | there), rows)


def _with_above(path: str) -> list[str]:
    parts = path.split("/") if path else []
    return ["/".join(parts[:length]) for length in range(len(parts) + 1)]


def _parent(ids: dict[str, int], path: str) -> int | None:
    return ids[path.rpartition("/")[0]] if path else None


def _depth(path: str) -> int:
    return len(path.split("/")) if path else 0
