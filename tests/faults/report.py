"""What scripts/faults prints: progress while it runs, and a table of what was asked and what was measured."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

# Says how many of a part's steps are done.
Tell = Callable[[int], object]


@dataclass(frozen=True)
class Row:
    """One number."""

    what: str
    asked: str
    measured: str
    passed: bool


@contextmanager
def telling(console: Console, what: str, steps: int) -> Iterator[Tell]:
    """Show how far a part is and how long it will still take."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(what, total=steps)
        yield lambda done: progress.update(task, completed=done)


def print_table(rows: Sequence[Row], title: str, console: Console) -> None:
    """Print all numbers."""
    table = Table("number", "asked", "measured", "", title=title)
    for row in rows:
        table.add_row(row.what, row.asked, row.measured, "[green]pass" if row.passed else "[red]FAIL")
    console.print(table)
