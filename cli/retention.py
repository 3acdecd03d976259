"""`histobatch retention`: deleting what is too old to be kept, or taking its names."""

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.direct import open_database

if TYPE_CHECKING:
    from rich.console import Console

    from core.database import Database
    from core.retention import Action, Expired, Purge
    from core.settings import Settings

app = typer.Typer(add_completion=False, no_args_is_help=True)

_AGE = re.compile(r"([1-9]\d{0,4})([dwy])")
_DAYS = {"d": 1, "w": 7, "y": 365}

OlderThan = Annotated[str | None, typer.Option(help="Those that ended so long ago: 90d, 12w or 2y.")]
SubmissionId = Annotated[str | None, typer.Option("--submission", help="This one, whenever it ended.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@app.command()
def delete(
    older_than: OlderThan = None, submission: SubmissionId = None, dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Delete submissions that have ended, with their images and results. The audit stays."""
    _run("delete", older_than, submission, dry_run, yes)


@app.command()
def anonymise(
    older_than: OlderThan = None, submission: SubmissionId = None, dry_run: DryRun = False, yes: Yes = False
) -> None:
    """Take names, folders, patients and slides from submissions that have ended. Results stay."""
    _run("anonymise", older_than, submission, dry_run, yes)


def _run(action: str, older_than: str | None, submission: str | None, dry_run: bool, yes: bool) -> None:
    from rich.console import Console

    from core.retention import Action, measure_expired
    from core.settings import read_settings

    settings = read_settings()
    expired = _expired(Action(action), older_than, submission)
    console = Console()
    with open_database(settings) as database:
        with database.read() as session:
            found = measure_expired(session, expired)
        console.print(f"{found.submissions} submissions with {found.images} images", highlight=False)
        # Names of deleted files go by age as well, so there may be work without any submission.
        if dry_run or not (found.submissions or expired.before):
            return
        if not yes:
            typer.confirm(f"{action} them? There is no way back", abort=True)
        _purge(database, settings, expired, found, console)


def _expired(action: "Action", older_than: str | None, submission: str | None) -> "Expired":
    from core.retention import Expired
    from core.tables import utc_now

    if (older_than is None) == (submission is None):
        raise typer.BadParameter("give either --older-than or --submission")
    if older_than is None:
        return Expired(action, submission_id=submission)
    match = _AGE.fullmatch(older_than)
    if match is None:
        raise typer.BadParameter(f"{older_than!r} is no age: write 90d, 12w or 2y", param_hint="--older-than")
    return Expired(action, before=utc_now() - timedelta(days=int(match[1]) * _DAYS[match[2]]))


def _purge(database: "Database", settings: "Settings", expired: "Expired", found: "Purge", console: "Console") -> None:
    from getpass import getuser

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from core.forgotten_pictures import delete_forgotten_pictures
    from core.retention import purge
    from core.uploads import delete_forgotten_uploads, delete_upload

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("images", total=found.images)
        done = purge(database, expired, getuser(), on_images=lambda number: progress.advance(task, number))
    if expired.submission_id is not None:
        delete_upload(settings.uploads_dir, expired.submission_id)
    delete_forgotten_uploads(database, settings.uploads_dir)
    delete_forgotten_pictures(database, settings.thumbnails_dir)
    console.print(f"{expired.action}: {done}", highlight=False)
