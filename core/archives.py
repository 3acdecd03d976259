"""Archives in the database: defining, changing and removing them, and who did."""

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete
from sqlmodel import Session, SQLModel, col, select

from core.archive_definitions import ArchiveDefinition
from core.archive_tables import Archive, ArchiveFile, ArchiveFolder, Delivery, Scan
from core.audit import record
from core.database import Database, execute_dml
from core.errors import FolderError, PermanentError, Reason
from core.paths import path_to_text, resolve_folder, text_to_path
from core.schedule import next_fire
from core.settings import Settings
from core.states import ScanState
from core.storage.addresses import is_address, resolve_address
from core.tables import utc_now

BY_API = "api"
BY_FILE = "file"
# Rows of a removed archive that go in one transaction, so that nobody waits long for a writer.
_AT_ONCE = 5000


class ArchiveBusy(PermanentError):
    """A scan of the archive runs, and must end first."""

    def __init__(self, scan_id: str) -> None:
        super().__init__(f"a scan of the archive runs ({scan_id}): wait for its end, or cancel it")
        self.scan_id = scan_id


def find_archive(session: Session, name: str) -> Archive | None:
    """Find an archive by its name."""
    return session.exec(select(Archive).where(col(Archive.name) == name)).one_or_none()


def read_roots(session: Session) -> dict[str, str]:
    """The root of every archive, by name."""
    return dict(session.exec(select(Archive.name, Archive.root)).all())


def check_root(root: str, settings: Settings, *, must_exist: bool) -> str:
    """Check that an archive's root lies below an allowed one; returns it in the form that is stored.

    Args:
        must_exist: whether storage that is away is an error, and links are followed. Otherwise the storage is not
            even asked where the name says enough: one that hangs must not hold up whoever reads a file. Each scan
            follows the links again.

    Raises:
        FolderError: FOLDER_NOT_ALLOWED, or FOLDER_MISSING where it must exist.
    """
    if is_address(root):
        return str(resolve_address(root, settings.remote_roots))
    folder = os.fsdecode(text_to_path(root))
    plain = Path(os.path.normpath(folder))
    if not must_exist and any(plain.is_relative_to(allowed) for allowed in settings.roots):
        return path_to_text(os.fsencode(plain))
    try:
        resolved = resolve_folder(folder, settings.roots)
    except FolderError as error:
        if must_exist or error.reason != Reason.FOLDER_MISSING:
            raise
        resolved = Path(os.path.realpath(folder))
    return path_to_text(os.fsencode(resolved))


def create_archive(session: Session, definition: ArchiveDefinition, who: str, defined_by: str = BY_API) -> Archive:
    """Record a new archive and who made it. The caller has checked its root.

    Raises:
        IntegrityError: there is one of that name.
    """
    archive = Archive(**definition.columns(), defined_by=defined_by)
    archive.next_at = _next_at(archive)
    session.add(archive)
    record(session, who, "archive.create", archive.name)
    session.flush()
    return archive


def change_archive(
    session: Session, archive: Archive, definition: ArchiveDefinition, who: str, defined_by: str = BY_API
) -> bool:
    """Give an archive another definition, and note who did. False where nothing differs, and nothing is written."""
    wanted: dict[str, Any] = definition.columns() | {"defined_by": defined_by}
    changes = {name: value for name, value in wanted.items() if getattr(archive, name) != value}
    if not changes:
        return False
    for name, value in changes.items():
        setattr(archive, name, value)
    if changes.keys() & {"schedule", "time_zone", "enabled"}:
        archive.next_at = _next_at(archive)
    session.add(archive)
    record(session, who, "archive.change", archive.name)
    session.flush()
    return True


def release_archive(session: Session, archive: Archive, who: str) -> None:
    """Switch an archive off that is gone from the file of archives; from now on the API may change or remove it."""
    archive.enabled = False
    archive.next_at = None
    archive.defined_by = BY_API
    session.add(archive)
    record(session, who, "archive.release", archive.name)


def remove_archive(database: Database, archive: Archive, who: str) -> None:
    """Forget an archive, its files and what its scans counted. Their submissions, with images and results, stay.

    Files go in transactions of their own, so an interruption leaves an archive that is switched off and knows fewer
    files; removing it again goes on.

    Raises:
        ArchiveBusy: a scan of it runs.
    """
    with database.write() as session:
        _refuse_while_scanned(session, archive.id)
        mine = session.get_one(Archive, archive.id)
        mine.enabled, mine.next_at = False, None
        session.add(mine)
    while _delete_some(database, ArchiveFile, archive.id) or _delete_some(database, ArchiveFolder, archive.id):
        pass
    with database.write() as session:
        _refuse_while_scanned(session, archive.id)
        scans = select(Scan.id).where(col(Scan.archive_id) == archive.id)
        session.execute(delete(Delivery).where(col(Delivery.scan_id).in_(scans)))
        for table, key in _LAST:
            session.execute(delete(table).where(key == archive.id))
        record(session, who, "archive.remove", archive.name)


def running_scan(session: Session, archive_id: str) -> Scan | None:
    """The archive's scan that runs at the moment."""
    query = select(Scan).where(col(Scan.archive_id) == archive_id, col(Scan.state) == ScanState.RUNNING)
    return session.exec(query).one_or_none()


# A scan that was begun and ended meanwhile may have recorded files again.
_LAST: Sequence[tuple[type[SQLModel], Any]] = (
    (ArchiveFile, col(ArchiveFile.archive_id)),
    (ArchiveFolder, col(ArchiveFolder.archive_id)),
    (Scan, col(Scan.archive_id)),
    (Archive, col(Archive.id)),
)


def _refuse_while_scanned(session: Session, archive_id: str) -> None:
    scan = running_scan(session, archive_id)
    if scan is not None:
        raise ArchiveBusy(scan.id)


def _delete_some(database: Database, table: type[ArchiveFile] | type[ArchiveFolder], archive_id: str) -> int:
    some = select(table.id).where(col(table.archive_id) == archive_id).limit(_AT_ONCE)
    with database.write() as session:
        return execute_dml(session, delete(table).where(col(table.id).in_(some)))


def _next_at(archive: Archive) -> datetime | None:
    if archive.schedule is None or not archive.enabled:
        return None
    return next_fire(archive.schedule, archive.time_zone, utc_now())
