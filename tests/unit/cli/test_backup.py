"""`histobatch backup` copies a database in use, `histobatch restore` puts a copy in its place."""

import io
import sqlite3
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlmodel import col, func, select

from core.audit import record
from core.audit_verification import verify_audit
from core.database import Database
from core.tables import Submission


@pytest.fixture
def run(command: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str]]:
    """Run a command; its exit status and all that it printed."""

    def run_command(*arguments: object) -> tuple[int, str]:
        status, output, said = command(*arguments)
        return status, output + said

    return run_command


def submit(database: Database, *ids: str) -> None:
    for one in ids:
        with database.write() as session:
            session.add(Submission(id=one, source="folder", folder="/images"))
            record(session, "anna", "submission.create", one)


def submitted(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.exec(select(Submission.id).order_by(col(Submission.id))))


def test_what_was_lost_comes_back(run, database: Database, tmp_path: Path) -> None:
    """Backed up, worked on, put back: what came after is gone, and kept aside; the audit is as long as its anchor."""
    submit(database, "a", "b")
    status, text = run("backup", tmp_path / "copy.db")
    assert status == 0, text
    anchor = text.rsplit("anchor: ", 1)[1].strip()
    assert anchor == str(verify_audit(database))
    assert [path.name for path in tmp_path.glob("*copy*")] == ["copy.db"]
    submit(database, "c")
    database.close()
    status, text = run("restore", tmp_path / "copy.db", "--keep", tmp_path / "kept.db", "--yes")
    assert status == 0, text
    assert run("migrate")[0] == 0
    assert run("audit", "verify", "--anchor", anchor)[0] == 0
    assert submitted(database) == ["a", "b"]
    assert submitted(Database(f"sqlite:///{tmp_path / 'kept.db'}")) == ["a", "b", "c"]
    submit(database, "d")
    assert verify_audit(database).length == 3


def test_a_database_that_is_gone_comes_back(run, database: Database, tmp_path: Path, sqlite_url: str) -> None:
    """On a new disk there is nothing to keep."""
    submit(database, "a")
    assert run("backup", tmp_path / "copy.db")[0] == 0
    database.close()
    for file in tmp_path.glob("histobatch.db*"):
        file.unlink()
    assert run("restore", tmp_path / "copy.db", "--keep", tmp_path / "kept.db", "--yes")[0] == 0
    assert submitted(Database(sqlite_url)) == ["a"]


def test_a_backup_is_one_moment_of_a_database_in_use(
    run, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others write, it holds whole transactions: as many submissions as rows of the audit."""
    monkeypatch.setattr("core.backups._PAGES", 1)
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            submit(database, f"{number:05}")
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(3):
            status, text = run("backup", tmp_path / f"{number}.db")
            assert status == 0, text
    finally:
        stop.set()
        writer.join(60)
    for number in range(3):
        copy = Database(f"sqlite:///{tmp_path / f'{number}.db'}")
        with copy.read() as session:
            count = session.exec(select(func.count()).select_from(Submission)).one()
        assert verify_audit(copy).length == count


def test_nothing_is_overwritten(run, database: Database, tmp_path: Path) -> None:
    """Neither a backup nor what a restore keeps."""
    submit(database, "a")
    (tmp_path / "there.db").write_text("precious")
    assert run("backup", tmp_path / "copy.db")[0] == 0
    database.close()
    there = tmp_path / "there.db"
    for arguments in (("backup", there), ("restore", tmp_path / "copy.db", "--keep", there, "--yes")):
        status, text = run(*arguments)
        assert status == 1
        assert "is there already" in text
    assert (tmp_path / "there.db").read_text() == "precious"


def test_a_restore_waits_for_no_program(run, database: Database, tmp_path: Path) -> None:
    """One that has the database open would go on with what it remembers: the restore is refused, nothing changed."""
    submit(database, "a")
    assert run("backup", tmp_path / "copy.db")[0] == 0
    submit(database, "b")
    with database.engine.connect():
        status, text = run("restore", tmp_path / "copy.db", "--keep", tmp_path / "kept.db", "--yes")
    assert status == 1
    assert "stop all of histobatch first" in text
    assert submitted(database) == ["a", "b"]


@pytest.mark.parametrize("kind", ["missing", "text", "cut", "damaged"])
def test_only_a_whole_backup_is_put_back(run, database: Database, tmp_path: Path, kind: str) -> None:
    """A copy that is cut off or damaged is found before anything is replaced."""
    submit(database, *(f"{number:04}" for number in range(40)))
    copy = tmp_path / "copy.db"
    assert run("backup", copy)[0] == 0
    database.close()
    content = copy.read_bytes()
    if kind == "missing":
        copy.unlink()
    elif kind == "text":
        copy.write_text("no database")
    elif kind == "cut":
        copy.write_bytes(content[: len(content) // 2])
    else:
        at = content.index(b"submission.create")
        page = at - at % 4096
        copy.write_bytes(content[:page] + bytes(64) + content[page + 64 :])
    status, text = run("restore", copy, "--keep", tmp_path / "kept.db", "--yes")
    assert status == 1
    assert "copy.db" in text
    assert not (tmp_path / "kept.db").exists()
    assert len(submitted(database)) == 40


def test_a_restore_asks_before(run, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came after the backup is lost, so a person says yes."""
    submit(database, "a")
    assert run("backup", tmp_path / "copy.db")[0] == 0
    submit(database, "b")
    database.close()
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    status, text = run("restore", tmp_path / "copy.db", "--keep", tmp_path / "kept.db")
    assert status == 1
    assert "is lost" in text
    assert submitted(database) == ["a", "b"]


def test_an_altered_audit_is_told_with_the_backup(run, database: Database, tmp_path: Path) -> None:
    """The copy is there all the same: it may be what proves it."""
    submit(database, "a", "b")
    database.close()
    file = tmp_path / "histobatch.db"
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TRIGGER audit_update")
        connection.execute("UPDATE audit SET who = 'bob' WHERE number = 2")
    connection.close()
    status, text = run("backup", tmp_path / "copy.db")
    assert status == 1
    assert "row 2 was altered" in text
    assert (tmp_path / "copy.db").exists()


def test_postgresql_has_tools_of_its_own(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The message names them."""
    monkeypatch.setenv("HISTOBATCH_DATABASE_URL", "postgresql://somewhere/h")
    for arguments in (("backup", tmp_path / "c.db"), ("restore", tmp_path / "c.db", "--keep", tmp_path / "k.db")):
        status, text = run(*arguments)
        assert status == 1
        assert "pg_dump" in text
