"""Following the audit's chain from its first row to its end, to find what was altered, added or taken out."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from core.audit import chain_hash, moment_text
from core.database import Database
from core.errors import ConfigurationError, PermanentError

_START = "0" * 64
_AT_ONCE = 5_000
_LEAST = -(2**63)
_ANCHOR = re.compile(r"(\d{1,18}):([0-9a-f]{64})")
# One statement, and so one state of the database, also while others add rows.
_END = text(
    "SELECT (SELECT max(number) FROM audit), (SELECT count(*) FROM audit_chain), length, hash"
    " FROM (SELECT 1) AS one LEFT JOIN audit_chain ON id = 1"
)
_PAGE = text(
    "SELECT number, at, who, action, subject, detail, hash FROM audit"
    " WHERE number > :after AND number <= :last ORDER BY number LIMIT :limit"
)


class AuditFault(PermanentError):
    """The audit is not what was recorded.

    Attributes:
        number: the first row that is wrong, as far as can be told.
    """

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"the audit is not whole: row {number} {what}")
        self.number = number


@dataclass(frozen=True)
class Anchor:
    """How long a chain is and the hash of its last row. Kept elsewhere, it shows a chain that was computed again."""

    length: int
    hash: str

    def __str__(self) -> str:
        return f"{self.length}:{self.hash}"


def parse_anchor(written: str) -> Anchor:
    """Read an anchor as `histobatch audit verify` prints it.

    Raises:
        ConfigurationError: it is none.
    """
    match = _ANCHOR.fullmatch(written.strip().lower())
    if match is None:
        raise ConfigurationError("an anchor is LENGTH:HASH, with 64 hex digits, as `histobatch audit verify` prints it")
    return Anchor(int(match[1]), match[2])


def measure_audit(database: Database) -> int:
    """Number of the last row, by which to measure how far a verification is."""
    with database.read() as session:
        return session.execute(_END).one()[0] or 0


def verify_audit(
    database: Database, anchor: Anchor | None = None, on_rows: Callable[[int], object] = lambda rows: None
) -> Anchor:
    """Follow the whole chain, a page of rows at a time, while others may add to it; returns its end.

    Args:
        anchor: an end that the chain had earlier, kept where nobody who writes to the database could change it.
        on_rows: called with the number of rows after each page.

    Raises:
        AuditFault: a row was altered, exchanged, added or taken out, or the chain does not hold the anchor.
    """
    with _reading(database) as connection:
        newest, ends, length, end_hash = connection.execute(_END).one()
        walk = _Walk(anchor)
        for rows in _pages(connection, newest):
            for row in rows:
                walk.step(row)
            on_rows(len(rows))
    if ends != 1 or not isinstance(length, int):
        raise AuditFault(walk.number, "is the last, and the record of the chain's end (audit_chain) is gone")
    if walk.number < length:
        raise AuditFault(walk.number + 1, f"is missing, and all behind it: the chain had {length} rows")
    if walk.number > length:
        raise AuditFault(length + 1, f"was added, or the record of the chain's end altered, which is row {length}")
    if walk.hash != end_hash:
        raise AuditFault(length, "is not the end that was recorded: it was altered with its hash, or the record was")
    if anchor is not None and anchor.length > length:
        raise AuditFault(length + 1, f"is missing, and all behind it: the anchor was taken at row {anchor.length}")
    return Anchor(walk.number, walk.hash)


class _Walk:
    """How far the chain was followed: the last row's number and hash."""

    def __init__(self, anchor: Anchor | None) -> None:
        self.number = 0
        self.hash = _START
        self._anchor = anchor
        self._check_anchor()

    def step(self, row: Sequence[Any]) -> None:
        number, moment, *words, row_hash = row
        if number < 1:
            raise AuditFault(number, "was added: numbers begin at 1")
        self.number += 1
        if number != self.number:
            raise AuditFault(self.number, f"is missing: row {number} is the next")
        expected = _follow(self.hash, number, moment, words)
        if expected is None or row_hash != expected:
            raise AuditFault(number, "was altered, exchanged or put in: its hash is not that of its fields")
        self.hash = expected
        self._check_anchor()

    def _check_anchor(self) -> None:
        if self._anchor is not None and self._anchor.length == self.number and self._anchor.hash != self.hash:
            raise AuditFault(
                self.number, "has not the anchor's hash: it or rows before it were altered, and hashes computed again"
            )


def _follow(before: str, number: int, moment: object, words: Sequence[object]) -> str | None:
    """Compute the hash that a row must have; None where its fields are nothing that was ever recorded."""
    if not all(isinstance(word, str) for word in words):
        return None
    if isinstance(moment, datetime):
        return chain_hash(before, [number, moment_text(moment), *words])
    # SQLite: as it is stored, so that no other way to write the same moment passes.
    if isinstance(moment, str) and moment[10:11] == " ":
        return chain_hash(before, [number, f"{moment[:10]}T{moment[11:]}+00:00", *words])
    return None


def _pages(connection: Connection, newest: int | None) -> Iterator[Sequence[Sequence[Any]]]:
    after = _LEAST
    while newest is not None and after < newest:
        rows = connection.execute(_PAGE, {"after": after, "last": newest, "limit": _AT_ONCE}).all()
        # No transaction lasts longer than a page: PostgreSQL could not clean up behind it, SQLite not shorten its log.
        connection.rollback()
        if not rows:
            return
        yield rows
        after = rows[-1][0]


@contextmanager
def _reading(database: Database) -> Iterator[Connection]:
    """Connect so that text which is no UTF-8 (SQLite keeps it) is read as wrong instead of stopping the reading."""
    with database.engine.connect() as connection:
        if database.engine.dialect.name != "sqlite":
            yield connection
            return
        driver: Any = connection.connection.dbapi_connection
        usual = driver.text_factory
        driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        try:
            yield connection
        finally:
            driver.text_factory = usual
