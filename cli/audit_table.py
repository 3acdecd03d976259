"""Show rows of the audit: as a table, as CSV, as JSON Lines."""

import sys
from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.exports import csv_lines, guard
from api.routes.audit import describe_row
from core.audit_search import detail_of
from core.bundle import NOTICE
from core.tables import Audit

_COLUMNS = ("number", "at", "who", "action", "subject", "detail", "hash")


def print_rows(rows: Iterable[Audit]) -> None:
    """Print a table, a line a row."""
    table = Table(title=NOTICE, title_style="bold")
    for heading in ("number", "when (UTC)", "who", "what", "to what", "detail"):
        table.add_column(heading, overflow="fold", justify="right" if heading == "number" else "left")
    for row in rows:
        detail = ", ".join(f"{name} {value}" for name, value in detail_of(row).items())
        words = map(escape, (row.who, row.action, row.subject, detail))
        table.add_row(str(row.number), f"{row.at:%Y-%m-%d %H:%M:%S}", *words)
    Console().print(table)


def write_csv(rows: Iterable[Audit]) -> None:
    """Write CSV with a header line; text that a spreadsheet would run starts with an apostrophe."""
    output = sys.stdout.buffer
    output.write(csv_lines([_COLUMNS]))
    for row in rows:
        words = (guard(text) for text in (row.who, row.action, row.subject, row.detail))
        output.write(csv_lines([(row.number, row.at.isoformat(), *words, row.hash)]))


def write_jsonl(rows: Iterable[Audit]) -> None:
    """Write a JSON object a row, as /v1/audit has them."""
    for row in rows:
        sys.stdout.write(f"{describe_row(row).model_dump_json()}\n")
