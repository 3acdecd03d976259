"""Reading the audit: who did what, newest first."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, select

from core.database import Database
from core.tables import Audit

_AT_ONCE = 1_000


@dataclass(frozen=True)
class AuditFilter:
    """Which rows are meant: all that is given must hold.

    Attributes:
        after: rows of this moment and later ones.
    """

    who: str | None = None
    action: str | None = None
    subject: str | None = None
    after: datetime | None = None


def read_audit(session: Session, which: AuditFilter, before: int | None, limit: int) -> Sequence[Audit]:
    """Read rows with numbers below one, newest first."""
    query = select(Audit).order_by(col(Audit.number).desc()).limit(limit)
    for name in ("who", "action", "subject"):
        wanted = getattr(which, name)
        if wanted is not None:
            query = query.where(getattr(Audit, name) == wanted)
    if which.after is not None:
        query = query.where(col(Audit.at) >= which.after)
    if before is not None:
        query = query.where(col(Audit.number) < before)
    return session.exec(query).all()


def iter_audit(database: Database, which: AuditFilter) -> Iterator[Audit]:
    """Yield all rows that are meant, newest first, read in short transactions."""
    before: int | None = None
    while True:
        with database.read() as session:
            rows = read_audit(session, which, before, _AT_ONCE)
        yield from rows
        if len(rows) < _AT_ONCE:
            return
        before = rows[-1].number


def detail_of(row: Audit) -> dict[str, object]:
    """Read a row's detail. One that was altered into something else is shown as it is: {"unreadable": text}."""
    try:
        detail = json.loads(row.detail)
    except ValueError:
        detail = None
    return detail if isinstance(detail, dict) else {"unreadable": row.detail}
