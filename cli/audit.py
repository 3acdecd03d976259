"""`histobatch audit`: who did what, and whether the record of it is whole."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cli.direct import open_database

if TYPE_CHECKING:
    from core.audit_search import AuditFilter
    from core.audit_verification import Anchor
    from core.database import Database

app = typer.Typer(add_completion=False, no_args_is_help=True)


class ListFormat(StrEnum):
    """Forms in which rows leave."""

    TABLE = "table"
    CSV = "csv"
    JSONL = "jsonl"


@app.command()
def verify(
    anchor: Annotated[
        str | None, typer.Option(help="LENGTH:HASH that an earlier verification printed, kept elsewhere.")
    ] = None,
) -> None:
    """Check that no row of the audit was altered, added or taken out; prints the anchor to keep."""
    from core.audit_verification import parse_anchor
    from core.settings import read_settings

    kept = None if anchor is None else parse_anchor(anchor)
    with open_database(read_settings()) as database:
        end = follow_chain(database, kept)
    typer.echo(f"the audit is whole: {end.length} rows; keep this anchor where nobody who writes to the database can:")
    typer.echo(str(end))


def follow_chain(database: "Database", anchor: "Anchor | None") -> "Anchor":
    """Verify a database's audit with a progress bar on the standard error; returns the chain's end.

    Raises:
        AuditFault: it is not whole.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from core.audit_verification import measure_audit, verify_audit

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("rows of the audit", total=measure_audit(database))
        return verify_audit(database, anchor, on_rows=lambda rows: progress.advance(task, rows))


@app.command("list")
def list_(
    who: Annotated[str | None, typer.Option(help="What this name did.")] = None,
    action: Annotated[str | None, typer.Option(help="Such as submission.create or results.read.")] = None,
    subject: Annotated[str | None, typer.Option(help="What was done to this id or name.")] = None,
    after: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="From this moment on, in UTC.")
    ] = None,
    form: Annotated[ListFormat, typer.Option("--format", help="Form of the output.")] = ListFormat.TABLE,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many; by default 100 in a table, else all.")
    ] = None,
) -> None:
    """Show who did what, newest first."""
    from core.audit_search import AuditFilter
    from core.settings import read_settings

    which = AuditFilter(who, action, subject, None if after is None else after.replace(tzinfo=UTC))
    with open_database(read_settings()) as database:
        _write(database, which, form, limit or (100 if form == ListFormat.TABLE else None))


def _write(database: "Database", which: "AuditFilter", form: ListFormat, limit: int | None) -> None:
    from itertools import islice

    from cli.audit_table import print_rows, write_csv, write_jsonl
    from core.audit_search import iter_audit

    rows = islice(iter_audit(database, which), limit)
    {ListFormat.TABLE: print_rows, ListFormat.CSV: write_csv, ListFormat.JSONL: write_jsonl}[form](rows)
