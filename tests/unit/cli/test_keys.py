"""`histobatch keys` makes, lists and ends keys on the database."""

import re
from collections.abc import Callable
from functools import partial

import pytest
from sqlmodel import select

from core.database import Database
from core.tables import Audit

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(command: Run) -> Run:
    """Run `histobatch keys`."""
    return partial(command, "keys")


def test_a_key_is_printed_once_and_alone(run: Run, database: Database) -> None:
    """Standard output is the key, so that a script can keep it; no later list shows it; the audit names who made it."""
    status, out, said = run("create", "anna", "--scope", "read", "--scope", "review", "--expires-days", "30")
    assert status == 0, said
    assert re.fullmatch(r"hb_[0-9a-f]{12}_[\w-]{43}\n", out)
    assert out[16:].strip() not in said
    _, listed, _ = run("list")
    assert out[16:].strip() not in listed
    for part in (out[3:15], "anna", "read, review", "valid until"):
        assert part in listed
    with database.read() as session:
        (row,) = session.exec(select(Audit))
        assert (row.action, row.subject) == ("key.create", out[3:15])


def test_a_revoked_key_shows_as_such(run: Run, database: Database) -> None:
    """And an id that is none is an error of one line."""
    _, out, _ = run("create", "[red]anna", "--scope", "submit")
    assert "there is no key" not in run("list")[1]
    assert run("revoke", out[3:15])[0] == 0
    listed = run("list")[1]
    assert "revoked 20" in listed
    assert "[red]anna" in listed
    status, _, said = run("revoke", "000000000000")
    assert (status, said.count("\n")) == (1, 0)
    assert "no key 000000000000" in said


def test_a_key_that_nobody_asks_for_is_told(run: Run, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that lets everybody in on loopback, who makes a key must not believe that it protects."""
    assert "no effect" in run("create", "anna", "--scope", "read")[2]
    monkeypatch.setenv("HISTOBATCH_REQUIRE_KEY", "true")
    assert "no effect" not in run("create", "anna", "--scope", "read")[2]


def test_a_key_asks_for_a_scope_that_there_is(run: Run, database: Database) -> None:
    """None and a wrong one are refused before anything is written."""
    assert run("create", "anna")[0] == 2
    assert run("create", "anna", "--scope", "everything")[0] == 2
    assert "there is no key" in run("list")[1]


def test_a_database_that_is_not_migrated_is_named(
    run: Run, empty_sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the cure, no traceback."""
    monkeypatch.setenv("HISTOBATCH_DATABASE_URL", empty_sqlite_url)
    status, _, said = run("create", "anna", "--scope", "read")
    assert status == 1
    assert "histobatch migrate" in said
    assert "Traceback" not in said
