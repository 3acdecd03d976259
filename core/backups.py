"""Copies of an SQLite database, made while programs work with it, and put back while none does."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import make_url

from core.errors import ConfigurationError, PermanentError

# Pages between two calls that tell how far it is.
_PAGES = 2_000
_BUSY_S = 30
_MAGIC = b"SQLite format 3\0"


class BackupError(PermanentError):
    """A backup cannot be made or put back."""


def sqlite_file(url: str) -> Path:
    """Name the file of an SQLite database.

    Raises:
        ConfigurationError: the database is PostgreSQL, which has its own tools.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise ConfigurationError(
            "this copies SQLite databases: use pg_dump and pg_restore for PostgreSQL, as docs/runbook.md shows"
        )
    return Path(parsed.database)


def back_up(database: Path, target: Path, on_pages: Callable[[int, int], object]) -> None:
    """Copy a database into a new file as it is at one moment. Programs may go on working with it.

    Args:
        on_pages: called with the pages that are left, and all.

    Raises:
        BackupError: there is no such database, the target is there already, or the copy is not whole.
    """
    if not database.is_file():
        raise BackupError(f"there is no database {database}")
    if target.exists():
        raise BackupError(f"{target} is there already: backups are never overwritten")
    part = target.with_name(f".{target.name}.part")
    part.unlink(missing_ok=True)
    try:
        with _open(database, "rw") as source, closing(sqlite3.connect(part)) as copy:
            # One transaction over all steps: a copy would begin again with every row that others write in between.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master")
            source.backup(copy, pages=_PAGES, progress=lambda _status, left, total: on_pages(left, total))
        check_whole(part)
        seal(part)
        part.rename(target)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"{target} cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def seal(file: Path) -> None:
    """Make a database one file, without a log beside it that could be left behind, and have the disk hold it."""
    with _open(file, "rw") as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def restore(backup: Path, database: Path, on_pages: Callable[[int, int], object]) -> None:
    """Put a backup in a database's place, all at once or not at all.

    Raises:
        BackupError: the backup is not whole, or a program has the database open.
    """
    check_whole(backup)
    database.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _open(backup, "ro") as source, _alone(database) as target:
            source.backup(target, pages=-1, progress=lambda _status, left, total: on_pages(left, total))
    except sqlite3.Error as error:
        raise BackupError(f"{database} cannot be replaced: {error}") from error
    check_whole(database)


def check_whole(file: Path) -> None:
    """Read a database to its last page.

    Raises:
        BackupError: it is no SQLite database, or damaged.
    """
    try:
        with file.open("rb") as opened:
            if opened.read(len(_MAGIC)) != _MAGIC:
                raise BackupError(f"{file} is no SQLite database")
        with _open(file, "ro") as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"{file} cannot be read: {error}") from error
    if found != ["ok"]:
        raise BackupError(f"{file} is damaged: {found[0]}")


@contextmanager
def _open(file: Path, mode: str) -> Iterator[sqlite3.Connection]:
    address = f"{file.resolve().as_uri()}?mode={mode}"
    with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)) as connection:
        yield connection


@contextmanager
def _alone(database: Path) -> Iterator[sqlite3.Connection]:
    """Open a database that no other program has open: it would go on with what it remembers of the old one."""
    with closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as connection:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        try:
            connection.execute("BEGIN EXCLUSIVE")
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise BackupError(f"a program has {database} open: stop all of histobatch first") from error
        yield connection
