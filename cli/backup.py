"""`histobatch backup` and `histobatch restore`: copies of the SQLite database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer


def backup(file: Annotated[Path, typer.Argument(help="File to write; must not be there yet.")]) -> None:
    """Copy the SQLite database while everything runs, and check the copy; prints its audit's anchor."""
    from cli.audit import follow_chain
    from core.backups import back_up, seal, sqlite_file
    from core.database import Database
    from core.settings import read_settings

    database = sqlite_file(read_settings().database)
    with _progress("pages copied") as on_pages:
        back_up(database, file, on_pages)
    typer.echo(f"{file}: {file.stat().st_size:,} bytes, whole")
    copied = Database(f"sqlite:///{file}")
    try:
        if copied.is_current():
            typer.echo(f"its audit is whole; anchor: {follow_chain(copied, None)}")
    finally:
        copied.close()
        seal(file)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `histobatch backup` wrote.")],
    keep: Annotated[Path, typer.Option(help="Where a copy of the database goes that is replaced; must not be there.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Put a backup in the database's place. All programs must be stopped; `histobatch migrate` comes next."""
    from core.backups import back_up, check_whole, sqlite_file
    from core.backups import restore as put_back
    from core.settings import read_settings

    database = sqlite_file(read_settings().database)
    check_whole(file)
    if not yes:
        typer.confirm(f"replace {database} by {file}? What came after the backup is lost", abort=True)
    if database.exists():
        with _progress("pages kept") as on_pages:
            back_up(database, keep, on_pages)
    with _progress("pages put back") as on_pages:
        put_back(file, database, on_pages)
    typer.echo(f"{database} is as {file} was; now run histobatch migrate and histobatch audit verify --anchor ANCHOR")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda left, total: progress.update(task, completed=total - left, total=total)
