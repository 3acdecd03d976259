"""Whatever is done to the audit behind the programs' back, verification finds the first row that is wrong."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, bindparam, delete, insert, text, update
from sqlmodel import col, select

from core.audit import chain_hash, moment_text, record
from core.audit_verification import Anchor, AuditFault, measure_audit, parse_anchor, verify_audit
from core.database import Database
from core.errors import ConfigurationError
from core.tables import Audit, AuditChain

ROWS = 12
START = "0" * 64
TEXTS = ("who", "action", "subject", "detail", "hash")
numbers = st.integers(1, ROWS)


@dataclass(frozen=True)
class Chain:
    """An audit of 12 rows whose triggers are gone, and what it held."""

    database: Database
    rows: list[dict[str, Any]]
    end: Anchor

    def restore(self) -> None:
        """Undo whatever was done."""
        with self.database.engine.begin() as connection:
            connection.execute(delete(Audit))
            connection.execute(insert(Audit), self.rows)
            connection.execute(delete(AuditChain))
            connection.execute(insert(AuditChain).values(id=1, length=self.end.length, hash=self.end.hash))

    def find_fault(self, tamper: Callable[[Connection], object], anchor: Anchor | None = None) -> int:
        """Do something to the stored rows; which row verification says is wrong first."""
        try:
            with self.database.engine.begin() as connection:
                tamper(connection)
            with pytest.raises(AuditFault) as caught:
                verify_audit(self.database, anchor)
        finally:
            self.restore()
        assert f"row {caught.value.number} " in str(caught.value)
        return caught.value.number


@pytest.fixture
def chain(database: Database) -> Iterator[Chain]:
    for number in range(1, ROWS, 2):
        with database.write() as session:
            record(session, "anna", "submission.create", f"{number:032x}", {"lane": "urgent", "n": number})
            record(session, "Zoë Müller", "lane.pause", f"bulk{number}")
    with database.read() as session:
        rows = [row.model_dump() for row in session.exec(select(Audit).order_by(col(Audit.number)))]
    with database.engine.begin() as connection:
        for table, event in (("audit", "update"), ("audit", "delete"), ("audit_chain", "delete")):
            where = f" ON {table}" if database.engine.dialect.name == "postgresql" else ""
            connection.execute(text(f"DROP TRIGGER {table}_{event}{where}"))
    chain = Chain(database, rows, Anchor(ROWS, rows[-1]["hash"]))
    yield chain
    assert verify_audit(database, chain.end) == chain.end


def for_many(examples: int) -> Any:
    return settings(
        max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
    )


def change(connection: Connection, number: int, **values: object) -> None:
    connection.execute(update(Audit).where(col(Audit.number) == number).values(**values))


def renumber(connection: Connection, pairs: list[tuple[int, int]]) -> None:
    """Give rows other numbers, by way of numbers that none has."""
    statement = text("UPDATE audit SET number = :new WHERE number = :old")
    connection.execute(statement, [{"old": old, "new": new + 1000} for old, new in pairs])
    connection.execute(statement, [{"old": new + 1000, "new": new} for _, new in pairs])


def compute_again(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Make a chain of any rows, as whoever knows how it is done can."""
    end, made = START, []
    for number, row in enumerate(rows, start=1):
        fields = [number, moment_text(row["at"]), row["who"], row["action"], row["subject"], row["detail"]]
        end = chain_hash(end, fields)
        made.append({**row, "number": number, "hash": end})
    return made


def replace_all(connection: Connection, rows: list[dict[str, Any]]) -> None:
    connection.execute(delete(Audit))
    connection.execute(insert(Audit), rows)
    connection.execute(update(AuditChain).values(length=len(rows), hash=rows[-1]["hash"]))


@for_many(60)
@given(number=numbers, column=st.sampled_from(TEXTS), data=st.data())
def test_one_other_character_is_found(chain: Chain, number: int, column: str, data: st.DataObject) -> None:
    """In any field of any row, one that is put in or left out, too."""
    before = chain.rows[number - 1][column]
    at = data.draw(st.integers(0, len(before) - 1))
    other = data.draw(st.characters(codec="utf-8", exclude_characters="\0").filter(lambda one: one != before[at]))
    after = data.draw(st.sampled_from([before[:at] + other + before[at + 1 :], before[:at] + before[at + 1 :]]))
    values = {column: after[:64] if column == "hash" else after}
    assert chain.find_fault(lambda connection: change(connection, number, **values)) == number


@for_many(20)
@given(number=numbers, by=st.integers(-(10**15), 10**15).filter(bool))
def test_another_moment_is_found(chain: Chain, number: int, by: int) -> None:
    """To the microsecond."""
    moment = chain.rows[number - 1]["at"] + timedelta(microseconds=by)
    assert chain.find_fault(lambda connection: change(connection, number, at=moment)) == number


@for_many(25)
@given(first=numbers, count=st.integers(1, ROWS))
def test_rows_that_are_gone_are_found(chain: Chain, first: int, count: int) -> None:
    """At the beginning, in the middle, at the end, and all of them."""
    gone = delete(Audit).where(col(Audit.number) >= first, col(Audit.number) < first + count)
    assert chain.find_fault(lambda connection: connection.execute(gone)) == first


@for_many(25)
@given(pair=st.lists(numbers, min_size=2, max_size=2, unique=True), with_hashes=st.booleans())
def test_rows_that_changed_places_are_found(chain: Chain, pair: list[int], with_hashes: bool) -> None:
    """With their hashes and without."""
    one, other = pair

    def swap(connection: Connection) -> None:
        renumber(connection, [(one, other), (other, one)])
        if not with_hashes:
            for number in pair:
                change(connection, number, hash=chain.rows[number - 1]["hash"])

    assert chain.find_fault(swap) == min(pair)


@for_many(25)
@given(number=st.integers(-3, ROWS + 2))
def test_a_row_that_was_put_in_is_found(chain: Chain, number: int) -> None:
    """Anywhere, with the hash that it should have, those behind it moved on; before the first and behind the last."""

    def put_in(connection: Connection) -> None:
        if 1 <= number <= ROWS:
            renumber(connection, [(row, row + 1) for row in range(number, ROWS + 1)])
        row = chain.rows[0] | {"number": number, "who": "mallory"}
        before = chain.rows[number - 2]["hash"] if 1 < number <= ROWS + 1 else START
        fields = [number, moment_text(row["at"]), row["who"], row["action"], row["subject"], row["detail"]]
        connection.execute(insert(Audit), row | {"hash": chain_hash(before, fields)})

    # Put in with its proper hash, a row is told from the one behind it, whose hash then is wrong.
    expected = {ROWS + 1: ROWS + 1, ROWS + 2: ROWS + 1}.get(number, number + 1 if number > 0 else number)
    assert chain.find_fault(put_in) == expected


@for_many(15)
@given(number=numbers)
def test_a_chain_that_was_computed_again_is_found_by_an_anchor(chain: Chain, number: int) -> None:
    """Whoever may write to the database can make a whole chain of other rows; only what was kept elsewhere tells."""
    other = compute_again([row | {"who": "bob"} if row["number"] == number else row for row in chain.rows])
    assert chain.find_fault(lambda connection: replace_all(connection, other), chain.end) == ROWS
    early = Anchor(number, chain.rows[number - 1]["hash"])
    assert chain.find_fault(lambda connection: replace_all(connection, other), early) == number
    kept = chain.rows[:number]
    if number < ROWS:
        assert chain.find_fault(lambda connection: replace_all(connection, kept), chain.end) == number + 1


@pytest.mark.parametrize(
    ("statement", "number"),
    [
        ("DELETE FROM audit_chain", ROWS),
        ("UPDATE audit_chain SET id = 2", ROWS),
        ("UPDATE audit_chain SET hash = '0' || substr(hash, 2, 62) || 'f'", ROWS),
        ("UPDATE audit_chain SET length = 15", ROWS + 1),
        ("UPDATE audit_chain SET length = 5", 6),
    ],
)
def test_another_end_is_found(chain: Chain, statement: str, number: int) -> None:
    """The record of the chain's end must be there, and name the last row."""
    assert chain.find_fault(lambda connection: connection.execute(text(statement))) == number


def test_what_only_sqlite_stores_is_found(chain: Chain) -> None:
    """Bytes that are no text, the same text as bytes, and the same moment in another notation."""
    if chain.database.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL stores no such thing")
    for expression in ("who = CAST(x'ff6e' AS TEXT)", "who = CAST(who AS BLOB)", "at = at || 'Z'", "at = 5"):
        statement = text(f"UPDATE audit SET {expression} WHERE number = 3")
        assert chain.find_fault(lambda connection, statement=statement: connection.execute(statement)) == 3


def test_pages_of_rows_are_one_chain(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults at the seams of pages are found; how far it is, is told."""
    monkeypatch.setattr("core.audit_verification._AT_ONCE", 5)
    told: list[int] = []
    verify_audit(chain.database, on_rows=told.append)
    assert told == [5, 5, 2]
    assert measure_audit(chain.database) == ROWS
    for number in (5, 6, 11):
        row = delete(Audit).where(col(Audit.number) == bindparam("n", number))
        assert chain.find_fault(lambda connection, row=row: connection.execute(row)) == number


def test_rows_that_come_meanwhile_do_no_harm(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verification does not ask the programs to stop."""
    monkeypatch.setattr("core.audit_verification._AT_ONCE", 5)

    def add(_rows: int) -> None:
        with chain.database.write() as session:
            record(session, "anna", "lane.resume", "bulk")

    assert verify_audit(chain.database, on_rows=add) == chain.end
    assert verify_audit(chain.database, chain.end).length == ROWS + 3
    chain.restore()


def test_an_empty_audit_is_whole(database: Database) -> None:
    """A new installation has nothing to verify, and an anchor all the same."""
    assert verify_audit(database, Anchor(0, START)) == Anchor(0, START)
    with pytest.raises(AuditFault, match="row 0 has not the anchor's hash"):
        verify_audit(database, Anchor(0, "1" * 64))
    with pytest.raises(AuditFault, match="row 1 is missing"):
        verify_audit(database, Anchor(3, "1" * 64))


def test_an_anchor_is_read_as_it_was_printed() -> None:
    """What is none is refused in one line that says what one looks like."""
    anchor = Anchor(7, "ab" * 32)
    assert parse_anchor(f" {anchor}\n") == anchor
    for wrong in ("", "7", "7:", f"7:{'g' * 64}", f"-7:{'ab' * 32}", f"{anchor}0"):
        with pytest.raises(ConfigurationError, match=r"^an anchor is LENGTH:HASH[^\n]*$"):
            parse_anchor(wrong)


def test_rows_of_the_version_before_are_chained(empty_database_url: str) -> None:
    """By the migration, in their order; taken back, they are as they were."""
    from alembic import command

    from core import database as module

    opened = Database(empty_database_url)
    config = module._alembic_config()
    moments = ["2026-11-22 08:00:00.000000", "2026-11-22 08:00:00.123456", "2026-11-22 09:30:00.000001"]
    zone = "+00:00" if opened.engine.dialect.name == "postgresql" else ""

    def migrate(to: str, *, up: bool) -> None:
        with opened.engine.execution_options(histobatch_write=True).begin() as connection:
            config.attributes["connection"] = connection
            (command.upgrade if up else command.downgrade)(config, to)

    migrate("0007", up=True)
    with opened.engine.begin() as connection:
        for number, moment in enumerate(moments):
            statement = text(
                "INSERT INTO audit (at, who, action, subject) VALUES (:at, 'Zoë', 'submission.create', :s)"
            )
            connection.execute(statement, {"at": moment + zone, "s": f"s{number}"})
    opened.migrate()
    assert verify_audit(opened).length == len(moments)
    with opened.write() as session:
        record(session, "anna", "lane.pause", "bulk")
    assert verify_audit(opened).length == len(moments) + 1
    migrate("0007", up=False)
    with opened.engine.connect() as connection:
        subjects = connection.execute(text("SELECT subject FROM audit ORDER BY id")).scalars().all()
    assert subjects == ["s0", "s1", "s2", "bulk"]
    opened.migrate()
    assert verify_audit(opened).length == len(moments) + 1
    opened.close()
