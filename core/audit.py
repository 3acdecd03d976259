"""The audit: who did what, when, in a chain that shows what was altered or taken out.

Each row's hash is SHA-256 over the hash before it and the row's own fields as canonical JSON, so that no row can be
altered, moved or removed without all hashes behind it being wrong. Whoever may write to the database can compute them
all again: an anchor, the chain's length and hash kept elsewhere, shows that, too.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from sqlmodel import Session, select

from core.tables import Audit, AuditChain, utc_now

_RECORDED = "audit"


def expect_records(session: Session) -> None:
    """Prepare a session, as Database.write() does, whose transaction ends with append_recorded()."""
    session.info[_RECORDED] = []


def record(session: Session, who: str, action: str, subject: str, detail: Mapping[str, object] | None = None) -> None:
    """Have a row added to the audit when the caller's transaction (Database.write) commits; without it, none is.

    The row's moment is this one, so that moments of rows may be out of order by as long as transactions take.

    Args:
        who: the name of whoever asked.
        action: a constant such as "submission.create".
        subject: the id of what it was done to; never anything about a patient.
        detail: what else matters, as JSON; never anything about a patient.

    Raises:
        RuntimeError: the row would be lost, or outlive what it tells of: no transaction of Database.write(), or a
            savepoint in one, which may be undone alone.
    """
    if _RECORDED not in session.info or session.in_nested_transaction():
        raise RuntimeError(f"{action} must be recorded in Database.write(), outside of savepoints")
    row = Audit(number=0, at=utc_now(), who=who, action=action, subject=subject, detail=_as_json(detail or {}), hash="")
    session.info[_RECORDED].append(row)


def append_recorded(session: Session) -> None:
    """Append what was recorded in this transaction to the chain.

    The chain's end is locked until the transaction ends, so this comes last: nobody then waits with that lock in hand
    for a row that another who waits for the chain has. What rolls back leaves no gap, because the number of the last
    row rolls back with it, which a sequence's would not.
    """
    rows = session.info.pop(_RECORDED)
    if not rows:
        return
    session.flush()
    chain = session.exec(select(AuditChain).where(AuditChain.id == 1).with_for_update()).one()
    for row in rows:
        chain.length += 1
        row.number = chain.length
        chain.hash = row.hash = compute_hash(chain.hash, row)
        session.add(row)
    session.flush()


def compute_hash(before: str, row: Audit) -> str:
    """Compute a row's hash from the hash before it: 64 hex digits."""
    return chain_hash(before, [row.number, moment_text(row.at), row.who, row.action, row.subject, row.detail])


def chain_hash(before: str, fields: Sequence[object]) -> str:
    """Hash a row's number, moment (as moment_text gives it), who, action, subject and detail behind a hash."""
    return hashlib.sha256(before.encode() + _as_json(fields).encode()).hexdigest()


def moment_text(moment: datetime) -> str:
    """Write a moment in UTC with microseconds, which both databases keep."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _as_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
