"""`histobatch audit` shows who did what, and whether the record is whole."""

import csv
import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from core.audit import record
from core.audit_verification import verify_audit
from core.database import Database


@pytest.fixture
def run(command: Callable[..., tuple[int, str, str]]) -> Callable[..., tuple[int, str, str]]:
    """Run `histobatch audit`."""
    return partial(command, "audit")


@pytest.fixture
def database(sqlite_url: str) -> Database:
    opened = Database(sqlite_url)
    for number in range(4):
        with opened.write() as session:
            record(session, "anna", "submission.create", f"s{number}", {"lane": "urgent"})
            record(session, "[red]=ben", "results.read", f"s{number}", {"what": "items"})
    return opened


def test_a_whole_audit_gives_its_anchor(run, database: Database) -> None:
    """It is printed alone on the last line, and is taken as it was printed."""
    status, output, _ = run("verify")
    assert status == 0
    assert "whole: 8 rows" in output
    anchor = output.splitlines()[-1]
    assert anchor == str(verify_audit(database))
    with database.write() as session:
        record(session, "anna", "lane.pause", "bulk")
    assert run("verify", "--anchor", anchor)[0] == 0


def test_a_fault_is_one_line_and_status_1(run, database: Database) -> None:
    """Which row, and what is wrong with it; nothing that looks like an anchor."""
    with database.write() as session:
        session.execute(text("DROP TRIGGER audit_delete"))
        session.execute(text("DELETE FROM audit WHERE number = 5"))
    status, output, said = run("verify")
    assert (status, output) == (1, "")
    assert "the audit is not whole: row 5 is missing" in said.splitlines()[-1]


def test_another_chain_than_the_anchors_is_a_fault(run, database: Database) -> None:
    """Also where it is longer; an anchor that is none is refused."""
    status, _, said = run("verify", "--anchor", f"3:{'a' * 64}")
    assert status == 1
    assert "row 3 has not the anchor's hash" in said
    status, _, said = run("verify", "--anchor", "3")
    assert status == 1
    assert "LENGTH:HASH" in said


def test_a_database_of_another_version_is_told_so(run, empty_sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of a table that is missing."""
    monkeypatch.setenv("HISTOBATCH_DATABASE_URL", empty_sqlite_url)
    status, _, said = run("verify")
    assert status == 1
    assert "histobatch migrate" in said


def test_a_damaged_database_is_told_so(run, database: Database, tmp_path: Path) -> None:
    """One line, no traceback."""
    database.close()
    file = tmp_path / "histobatch.db"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + bytes(len(content) - 4096))
    status, _, said = run("verify")
    assert status == 1
    assert "histobatch: the database cannot be read" in said
    assert "Traceback" not in said


def test_rows_are_listed_newest_first(run, database: Database) -> None:
    """With the notice; names from outside are no markup."""
    status, output, _ = run("list", "--limit", "3")
    assert status == 0
    numbers = [line.split()[1] for line in output.splitlines() if line.startswith("│")]
    assert numbers == ["8", "7", "6"]
    assert "[red]=ben" in output
    assert "what items" in output
    assert "Research use only" in output


def test_filters_narrow_the_list(run, database: Database) -> None:
    """All that are given must hold."""

    def numbers(*arguments: str) -> list[int]:
        output = run("list", "--format", "jsonl", *arguments)[1]
        return [json.loads(line)["number"] for line in output.splitlines()]

    assert numbers() == [8, 7, 6, 5, 4, 3, 2, 1]
    assert numbers("--who", "anna") == [7, 5, 3, 1]
    assert numbers("--action", "results.read", "--limit", "2") == [8, 6]
    assert numbers("--subject", "s1") == [4, 3]
    assert numbers("--subject", "s1", "--who", "anna") == [3]
    assert numbers("--after", "2020-01-01") == [8, 7, 6, 5, 4, 3, 2, 1]
    assert numbers("--after", "2100-01-01T00:00:00") == []


def test_csv_is_safe_in_a_spreadsheet(run, database: Database) -> None:
    """What would be run as a formula starts with an apostrophe."""
    with database.write() as session:
        record(session, "=cmd()", "lane.pause", "bulk")
    rows = list(csv.DictReader(io.StringIO(run("list", "--format", "csv")[1])))
    assert rows[0]["who"] == "'=cmd()"
    assert len(rows) == 9
    assert list(rows[0]) == ["number", "at", "who", "action", "subject", "detail", "hash"]
