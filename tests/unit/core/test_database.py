"""SQLite and PostgreSQL behave alike: migrations, time zones, transactions, writers that meet."""

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import func, inspect
from sqlalchemy.exc import IntegrityError, StatementError
from sqlmodel import SQLModel, col, select

from core.database import Database
from core.errors import ConfigurationError
from core.settings import PROJECT
from core.tables import Submission, new_id


def submission(**values: object) -> Submission:
    return Submission(source="folder", folder="/images", **values)


def count(database: Database) -> int:
    with database.read() as session:
        return session.exec(select(func.count()).select_from(Submission)).one()


def test_migrating_twice_changes_nothing(database):
    """Every start of a program may migrate."""
    with database.write() as session:
        session.add(submission())
    database.migrate()
    assert database.is_current()
    assert count(database) == 1


def test_an_empty_database_is_not_current(empty_database_url):
    """Readiness tells a database without our tables from one with them."""
    opened = Database(empty_database_url)
    assert not opened.is_current()
    opened.close()


def test_processes_may_migrate_at_once(empty_database_url):
    """Several programs start on an empty database at the same moment: all succeed."""
    script = "import sys; from core.database import Database; sys.stdin.readline(); Database(sys.argv[1]).migrate()"
    programs = [
        subprocess.Popen(
            [sys.executable, "-c", script, empty_database_url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=PROJECT,
        )
        for _ in range(4)
    ]
    for program in programs:
        program.stdin.write(b"go\n")
        program.stdin.flush()
    errors = [program.communicate(timeout=60)[1].decode()[-500:] for program in programs]
    assert [program.returncode for program in programs] == [0] * 4, errors
    opened = Database(empty_database_url)
    assert opened.is_current()
    opened.close()


def test_migrations_make_what_the_tables_say(database):
    """Models and migrations cannot drift apart."""
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, SQLModel.metadata) == []


def test_times_come_back_in_utc(database):
    """What goes in with any zone comes back as the same moment, aware, in UTC."""
    moment = datetime(2026, 11, 23, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    with database.write() as session:
        session.add(submission(created_at=moment))
    with database.read() as session:
        stored = session.exec(select(Submission)).one().created_at
        same = session.exec(select(Submission).where(col(Submission.created_at) == moment)).all()
    assert stored == moment
    assert stored.tzinfo is UTC
    assert len(same) == 1


def test_a_time_without_a_zone_is_refused(database):
    """Nobody could say later what it meant."""
    with pytest.raises(StatementError, match="without a time zone"), database.write() as session:
        session.add(submission(created_at=datetime(2026, 11, 23)))


def test_an_exception_undoes_the_whole_write(database):
    """A block's rows are all there, or none is."""

    def add_and_fail() -> None:
        with database.write() as session:
            session.add(submission())
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        add_and_fail()
    assert count(database) == 0


def test_rows_point_to_what_exists(database):
    """Foreign keys are enforced on SQLite, too."""
    from core.lanes import Lane
    from core.tables import Batch

    with pytest.raises(IntegrityError), database.write() as session:
        session.add(Batch(submission_id="missing", lane=Lane.BULK, images=1))


def test_writers_that_first_read_wait_for_each_other(database):
    """Eight writers that read, then write, all get their turn: none fails because another came between."""
    with database.write() as session:
        session.add(Submission(id="s", source="folder", folder="0"))
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def add_one() -> None:
        start.wait()
        try:
            for _ in range(5):
                with database.write() as session:
                    row = session.get_one(Submission, "s", with_for_update=True)
                    row.folder = str(int(row.folder) + 1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=add_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    with database.read() as session:
        assert session.get_one(Submission, "s").folder == "40"


def test_sqlite_readers_do_not_wait_for_a_writer(sqlite_url):
    """In WAL mode status pages answer while a batch is being written."""
    opened = Database(sqlite_url)
    opened.migrate()
    with opened.write() as session:
        session.add(submission())
        session.flush()
        assert count(opened) == 0
    assert count(opened) == 1
    opened.close()


def test_opening_connects_to_nothing():
    """A program may start before its database; only work fails."""
    Database("postgresql://nobody@127.0.0.1:1/none").close()


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://x/y", "oracle+thin://x"])
def test_an_unusable_url_is_refused_in_one_line(url):
    """The message names the variable."""
    with pytest.raises(ConfigurationError, match=r"^HISTOBATCH_DATABASE_URL[^\n]*$"):
        Database(url)


def test_the_folder_of_a_new_sqlite_database_is_made(tmp_path):
    """The default database needs no preparation."""
    opened = Database(f"sqlite:///{tmp_path}/a/b/histobatch.db")
    opened.migrate()
    assert opened.is_current()
    opened.close()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(tmp_path):
    """The message names the folder, the cause and the variable."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"^the folder .*/file/a, cannot be made .*HISTOBATCH_DATABASE_URL$"):
        Database(f"sqlite:///{tmp_path}/file/a/histobatch.db")


def test_migrations_can_be_undone(empty_sqlite_url):
    """Downgrading leaves no table of ours behind."""
    from alembic import command

    from core import database as module

    opened = Database(empty_sqlite_url)
    opened.migrate()
    config = module._alembic_config()
    with opened.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(opened.engine).get_table_names() == ["alembic_version"]
    opened.close()


def test_ids_sort_by_time_and_do_not_repeat():
    """Keyset pages rely on it."""
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert [one[:12] for one in ids] == sorted(one[:12] for one in ids)
    assert {len(one) for one in ids} == {32}
