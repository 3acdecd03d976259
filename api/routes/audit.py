"""/v1/audit: who did what, when."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel

from api.context import DatabaseDep, ReaderDep
from api.moments import Moment
from api.rights import needs
from core.access import Scope
from core.audit_search import AuditFilter, detail_of, read_audit
from core.bundle import NOTICE
from core.tables import Audit

router = APIRouter(prefix="/v1/audit", tags=["service"], dependencies=[needs(Scope.ADMIN)])

_Word = Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")]


class AuditPublic(BaseModel):
    """One row: who did what to which subject. The hash covers the row and the one before."""

    number: int
    at: datetime
    who: str
    action: str
    subject: str
    detail: dict[str, object]
    hash: str


class AuditPage(BaseModel):
    """Rows, newest first. next_cursor asks for the next page; it is null on the last one."""

    rows: list[AuditPublic]
    next_cursor: str | None
    notice: str = NOTICE


@router.get("")
def list_audit(
    *,
    database: DatabaseDep,
    reader: ReaderDep,
    who: _Word = None,
    action: _Word = None,
    subject: _Word = None,
    after: Annotated[Moment | None, Query(description="rows of this moment and later ones")] = None,
    cursor: Annotated[str | None, Query(pattern=r"^\d{1,18}$", description="next_cursor of the page before")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> AuditPage:
    """List the audit, newest first. What is added meanwhile moves no page. `histobatch audit verify` checks it."""
    which = AuditFilter(who, action, subject, None if after is None else after.astimezone(UTC))
    with database.read() as session:
        rows = read_audit(session, which, None if cursor is None else int(cursor), limit + 1)
    reader.sees_audit()
    shown = rows[:limit]
    return AuditPage(
        rows=[describe_row(row) for row in shown],
        next_cursor=str(shown[-1].number) if len(rows) > limit else None,
    )


def describe_row(row: Audit) -> AuditPublic:
    """Put a row into the wire format."""
    return AuditPublic(**row.model_dump(exclude={"detail"}), detail=detail_of(row))
