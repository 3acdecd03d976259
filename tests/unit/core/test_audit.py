"""The audit's chain grows without gaps, whoever writes at once, and the database refuses to change it."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlmodel import col, select

from core.audit import append_recorded, compute_hash, expect_records, record
from core.database import Database
from core.tables import Audit, AuditChain, Submission, utc_now


def read_rows(database: Database) -> list[Audit]:
    with database.read() as session:
        return list(session.exec(select(Audit).order_by(col(Audit.number))))


def add(database: Database, *subjects: str) -> None:
    with database.write() as session:
        for subject in subjects:
            record(session, "anna", "test", subject, {"n": 1})


def check_chain(database: Database) -> int:
    """Follow the chain from its start to its recorded end; its length."""
    before, rows = "0" * 64, read_rows(database)
    for number, row in enumerate(rows, start=1):
        assert row.number == number
        before = compute_hash(before, row)
        assert row.hash == before
    with database.read() as session:
        end = session.exec(select(AuditChain)).one()
    assert (end.length, end.hash) == (len(rows), before)
    return len(rows)


def test_rows_are_chained_in_the_order_in_which_they_were_recorded(database: Database) -> None:
    """Within a transaction and over several."""
    add(database, "a", "b")
    add(database, "c")
    assert [row.subject for row in read_rows(database)] == ["a", "b", "c"]
    assert check_chain(database) == 3


def test_what_is_rolled_back_leaves_no_row_and_no_gap(database: Database) -> None:
    """Neither where the work fails, nor where the commit does, after the chain was extended."""
    add(database, "a")

    def record_and_fail(*, appended: bool) -> None:
        with database.write() as session:
            record(session, "anna", "test", "lost")
            if appended:
                append_recorded(session)
            raise TimeoutError

    for appended in (False, True):
        with pytest.raises(TimeoutError):
            record_and_fail(appended=appended)
    add(database, "b")
    assert [row.subject for row in read_rows(database)] == ["a", "b"]
    assert check_chain(database) == 2


def test_work_that_is_done_again_is_recorded_once(database: Database) -> None:
    """insist() repeats what failed; what the failed try recorded went with it."""
    tries = []

    def work() -> None:
        with database.write() as session:
            record(session, "anna", "test", f"try {len(tries)}")
            tries.append(1)
            if len(tries) < 3:
                raise OperationalError("", {}, Exception("away"))

    database.insist(work, patience_s=60)
    assert [row.subject for row in read_rows(database)] == ["try 2"]
    assert check_chain(database) == 1


def test_many_writers_at_once_make_one_chain(database: Database) -> None:
    """Each holds rows that others want before it comes to the chain: none deadlocks, fails or forks the chain."""
    with database.write() as session:
        session.add_all([Submission(id=name, source="folder", folder="0") for name in "ab"])
    errors: list[BaseException] = []
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        try:
            for turn in range(6):
                with database.write() as session:
                    record(session, f"w{number}", "test", f"{number}-{turn}")
                    row = session.get_one(Submission, "ab"[(number + turn) % 2], with_for_update=True)
                    row.folder = str(int(row.folder) + 1)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert check_chain(database) == 48


def test_who_freezes_with_the_chain_in_hand_keeps_nobody_waiting(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL ends a transaction in which nothing happens any more, and gives its locks to others."""
    monkeypatch.setattr("core.database._POSTGRESQL_IDLE_MS", 500)
    frozen, other = Database(postgres_url), Database(postgres_url)
    other.migrate()

    def freeze() -> None:
        with frozen.write() as session:
            record(session, "anna", "test", "lost")
            append_recorded(session)
            add(other, "b")  # comes to its end only when the lock was taken from us
            expect_records(session)

    with pytest.raises(OperationalError):
        freeze()
    assert [row.subject for row in read_rows(other)] == ["b"]
    assert check_chain(other) == 1
    frozen.close()
    other.close()


def test_what_would_be_lost_cannot_be_recorded(database: Database) -> None:
    """A read commits nothing, and a savepoint that is undone would leave a row of what never was."""
    with database.read() as session, pytest.raises(RuntimeError, match=r"^lane\.pause"):
        record(session, "anna", "lane.pause", "bulk")
    with database.write() as session, session.begin_nested(), pytest.raises(RuntimeError, match="savepoints"):
        record(session, "anna", "lane.pause", "bulk")
    assert read_rows(database) == []


def test_the_database_refuses_to_change_rows(database: Database) -> None:
    """By any statement that changes, takes out or replaces; adding goes on."""
    add(database, "a", "b")
    statements = ["UPDATE audit SET who = 'x'", "DELETE FROM audit WHERE number = 2", "DELETE FROM audit_chain"]
    if database.engine.dialect.name == "sqlite":
        statements.append(
            "INSERT OR REPLACE INTO audit SELECT number, at, 'x', action, subject, detail, hash FROM audit"
        )
    else:
        statements += ["TRUNCATE audit", "TRUNCATE audit_chain"]
    for statement in statements:
        with pytest.raises(DBAPIError, match="only ever added"), database.write() as session:
            session.execute(text(statement))
    add(database, "c")
    assert check_chain(database) == 3


def test_a_hash_covers_every_field_and_the_row_before(database: Database) -> None:
    """Fields do not run into each other, and moments count to the microsecond."""
    moment = utc_now().replace(microsecond=5)
    fields = {"number": 1, "at": moment, "who": "ab", "action": "c", "subject": "d", "detail": "{}", "hash": ""}
    changes: list[dict[str, object]] = [
        {},
        {"number": 2},
        {"at": moment.replace(microsecond=6)},
        {"who": "a", "action": "bc"},
        {"subject": "e"},
        {"detail": '{"a":1}'},
    ]
    hashes = [compute_hash("0" * 64, Audit(**(fields | change))) for change in changes]
    hashes.append(compute_hash("1" * 64, Audit(**fields)))
    assert len(set(hashes)) == len(changes) + 1
