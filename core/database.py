"""Connections to the database: SQLite in WAL mode on one machine, PostgreSQL for several."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import stamina
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, CursorResult, Engine, UpdateBase, create_engine, event, make_url, text
from sqlalchemy.engine.interfaces import DBAPIConnection, ExceptionContext
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import ConnectionPoolEntry
from sqlmodel import Session

from core.audit import append_recorded, expect_records
from core.errors import ConfigurationError

T = TypeVar("T")

_MIGRATIONS = Path(__file__).parent / "migrations"
# A writer waits for another this long; transactions here take milliseconds, so more means a stuck process.
_SQLITE_BUSY_S = 30
# libpq waits for minutes for a server that vanished without a word; here nobody waits longer than about 15 s.
_POSTGRESQL_PATIENCE = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # ms
}
# A program that is frozen, or whose machine is gone, in the middle of a transaction would keep its locks for hours, and
# with the end of the audit's chain everybody else from recording anything.
_POSTGRESQL_IDLE_MS = 60_000
_ENDED_FOR_IDLENESS = "25P03"


class Database:
    """One engine and the two kinds of transaction that programs need."""

    def __init__(self, url: str) -> None:
        """Prepare connections; nothing connects yet.

        Raises:
            ConfigurationError: the URL is no URL, or names a database that is not supported.
        """
        self.engine = _make_engine(url)

    @contextmanager
    def write(self) -> Iterator[Session]:
        """One transaction that commits at the end of the block and rolls back on an exception.

        On SQLite it takes the write lock at its start (BEGIN IMMEDIATE): a transaction that first reads and then
        writes would otherwise fail at once when another writer came between, without waiting.
        """
        engine = self.engine.execution_options(histobatch_write=True)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            expect_records(session)
            yield session
            append_recorded(session)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One transaction that only reads and sees one state of the database throughout."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    def insist(self, work: Callable[[], T], patience_s: float) -> T:
        """Do one transaction's work, again and again while the database is away, for patience_s seconds.

        The work must bear to be done twice: a connection may break after the commit and before its answer.

        Raises:
            OperationalError: the database stayed away.
        """
        for attempt in stamina.retry_context(
            on=OperationalError, attempts=None, timeout=patience_s, wait_initial=0.1, wait_max=2, wait_jitter=0.5
        ):
            with attempt:
                return work()
        raise AssertionError("unreachable: the last attempt returns or raises")

    def ping(self) -> None:
        """Ask the database for an answer; raises what the driver raises."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def migrate(self) -> None:
        """Bring the tables to the newest form. Safe to call from several processes at once."""
        config = _alembic_config()
        with self.engine.execution_options(histobatch_write=True).begin() as connection:
            if self.engine.dialect.name == "postgresql":
                # SQLite's write lock keeps a second migration out; PostgreSQL needs one of its own.
                connection.execute(text("SELECT pg_advisory_xact_lock(42144096)"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def is_current(self) -> bool:
        """Whether the tables have the form that this version expects."""
        with self.engine.connect() as connection:
            return _revision(connection) == ScriptDirectory.from_config(_alembic_config()).get_current_head()

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def execute_dml(session: Session, statement: UpdateBase) -> int:
    """Run an UPDATE, DELETE or INSERT and return the number of rows it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _make_engine(address: str) -> Engine:
    try:
        url = make_url(address)
    except Exception as error:
        raise ConfigurationError("HISTOBATCH_DATABASE_URL is no database URL") from error
    if url.drivername == "sqlite":
        return _make_sqlite_engine(address, url.database)
    if url.get_backend_name() == "postgresql":
        # psycopg 3 is the driver of the postgres extra; a bare postgresql:// means it, too.
        engine = create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            pool_size=10,
            hide_parameters=True,
            connect_args=_POSTGRESQL_PATIENCE,
        )
        event.listen(engine, "connect", _configure_postgresql)
        event.listen(engine, "handle_error", _take_for_away, retval=True)
        return engine
    raise ConfigurationError(f"HISTOBATCH_DATABASE_URL names {url.drivername}: use sqlite or postgresql+psycopg")


def _make_sqlite_engine(address: str, file: str | None) -> Engine:
    if not file or file == ":memory:":
        raise ConfigurationError("HISTOBATCH_DATABASE_URL must name a file: programs share the database")
    folder = Path(file).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the folder of the database, {folder}, cannot be made ({error.strerror}): correct HISTOBATCH_DATABASE_URL"
        ) from error
    engine = create_engine(address, connect_args={"timeout": _SQLITE_BUSY_S}, hide_parameters=True)
    event.listen(engine, "connect", _configure_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_postgresql(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # Not as a parameter of the connection, which poolers such as PgBouncer refuse.
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute(f"SET idle_in_transaction_session_timeout = {_POSTGRESQL_IDLE_MS}")
    cursor.close()
    connection.autocommit = False


def _take_for_away(context: ExceptionContext) -> BaseException | None:
    """Have who comes back to a transaction that was ended meet the error of a broken connection, which it is."""
    original = context.original_exception
    if getattr(original, "sqlstate", None) != _ENDED_FOR_IDLENESS:
        return None
    return OperationalError(context.statement, None, original, hide_parameters=True, connection_invalidated=True)


def _configure_sqlite(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The driver's own habit of opening transactions is off; _begin_sqlite opens them.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # In WAL mode NORMAL keeps the database whole through a power cut, at the risk of the last few commits, which
    # are then done again: an outcome that was lost makes its batch's lease run out.
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("histobatch_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
