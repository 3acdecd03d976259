"""`histobatch archives`: folders that are scanned again and again; defining, scanning and looking at them."""

import re
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.address import Address, connect
from cli.archive_options import (
    Enabled,
    Exclude,
    Include,
    LaneOption,
    Manifest,
    Model,
    NamePattern,
    Schedule,
    SettleS,
    TimeZone,
    Webhook,
    WebhookSecretFile,
    Window,
    collect,
    root_as_text,
)

if TYPE_CHECKING:
    from api.archive_schemas import ArchiveStored, ScanPublic
    from cli.client import ApiClient

app = typer.Typer(add_completion=False, no_args_is_help=True)

_ID = re.compile("[0-9a-f]{32}")

Name = Annotated[str, typer.Argument(help="Name of the archive.")]


class ReportFormat(StrEnum):
    """Forms in which a report leaves."""

    JSON = "json"
    HTML = "html"


@app.command()
def add(
    context: typer.Context,
    name: Name,
    root: Annotated[str, typer.Argument(help="Folder below an allowed root, as the API's machine sees it.")],
    schedule: Schedule = None,
    time_zone: TimeZone = None,
    window: Window = None,
    include: Include = None,
    exclude: Exclude = None,
    lane: LaneOption = None,
    model: Model = None,
    name_pattern: NamePattern = None,
    manifest: Manifest = None,
    settle_s: SettleS = None,
    webhook: Webhook = None,
    webhook_secret_file: WebhookSecretFile = None,
    enabled: Enabled = None,
    api: Address = None,
) -> None:
    """Define an archive."""
    fields = collect(context.params)
    _say(connect(api).add_archive(fields | {"name": name, "root": root_as_text(root)}))


@app.command("set")
def set_(
    context: typer.Context,
    name: Name,
    root: Annotated[str | None, typer.Option(help="Folder below an allowed root.")] = None,
    schedule: Schedule = None,
    time_zone: TimeZone = None,
    window: Window = None,
    include: Include = None,
    exclude: Exclude = None,
    lane: LaneOption = None,
    model: Model = None,
    name_pattern: NamePattern = None,
    manifest: Manifest = None,
    settle_s: SettleS = None,
    webhook: Webhook = None,
    webhook_secret_file: WebhookSecretFile = None,
    enabled: Enabled = None,
    api: Address = None,
) -> None:
    """Change some of an archive's fields; the others stay."""
    fields = collect(context.params)
    if root is not None:
        fields["root"] = root_as_text(root)
    _say(connect(api).change_archive(name, fields))


@app.command("list")
def list_(api: Address = None) -> None:
    """Show every archive, when it is scanned next, and what its last scan found."""
    from rich.console import Console

    from cli.archive_table import print_archives, print_faults

    archives, faults = connect(api).archives()
    console = Console()
    print_archives(archives, console)
    if faults:
        print_faults(faults, console)
        raise typer.Exit(1)


@app.command()
def show(name: Name, api: Address = None) -> None:
    """Show how one archive is defined, and its last scan."""
    from rich.console import Console

    from cli.archive_table import print_archive

    print_archive(connect(api).archive(name), Console())


@app.command()
def remove(
    name: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False, api: Address = None
) -> None:
    """Forget an archive and what its scans counted. Its submissions, images and results stay."""
    if not yes:
        typer.confirm(f"forget {name} and what its scans counted?", abort=True)
    connect(api).remove_archive(name)


@app.command()
def scan(
    name: Name,
    wait: Annotated[bool, typer.Option("--wait", help="Follow it to its end.")] = False,
    accept_missing: Annotated[
        bool, typer.Option("--accept-missing", help="Missing files are gone on purpose, however many.")
    ] = False,
    api: Address = None,
) -> None:
    """Scan an archive now, whatever its schedule and window say; prints the scan's id."""
    client = connect(api)
    begun = client.begin_scan(name, accept_missing=accept_missing)
    typer.echo(begun.id)
    if wait:
        _follow(client, begun)


@app.command()
def scans(
    name: Name,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, newest first.")] = 20,
    api: Address = None,
) -> None:
    """Show what the scans of an archive found."""
    from itertools import islice

    from rich.console import Console

    from cli.archive_table import print_scans

    print_scans(list(islice(connect(api).scans(name), limit)), Console())


@app.command()
def report(
    subject: Annotated[str, typer.Argument(help="Name of an archive, for its last scan that ended; or id of a scan.")],
    form: Annotated[ReportFormat, typer.Option("--format", help="Form of the output.")] = ReportFormat.JSON,
    output: Annotated[Path | None, typer.Option(help="File to write; by default the standard output.")] = None,
    api: Address = None,
) -> None:
    """Write the report of a scan."""
    client = connect(api)
    address = f"/v1/scans/{_find_scan(client, subject)}/report.{form}"
    if output is None:
        client.download(address, sys.stdout.buffer.write)
        return
    with output.open("wb") as stream:
        client.download(address, stream.write)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="File of archives, as HISTOBATCH_ARCHIVES_FILE names it.")],
) -> None:
    """Check a file of archives without using it: what is wrong, and what is probably not meant."""
    from rich.console import Console

    from cli.archive_table import print_definitions, print_faults
    from core.archive_file import ArchiveFileError, read_archive_file
    from core.settings import read_settings

    try:
        definitions = read_archive_file(file, read_settings())
    except ArchiveFileError as error:
        print_faults(error.faults, Console())
        raise typer.Exit(1) from error
    print_definitions(definitions, Console())


def _say(stored: "ArchiveStored") -> None:
    from rich.console import Console

    from cli.archive_table import print_archive

    print_archive(stored, Console())
    if stored.new_webhook_secret:
        typer.echo(f"secret of the webhook, shown this once: {stored.new_webhook_secret}")


def _follow(client: "ApiClient", begun: "ScanPublic") -> None:
    from rich.console import Console

    from cli.archive_table import print_scans
    from cli.progress import print_totals
    from cli.scan_progress import follow_scan
    from core.states import ScanState

    console = Console(stderr=True)
    ended = follow_scan(client, begun, console)
    print_totals(client.submission(ended.submission_id), console)
    print_scans([ended], console)
    if ended.state != ScanState.DONE:
        raise typer.Exit(1)


def _find_scan(client: "ApiClient", subject: str) -> str:
    from core.errors import PermanentError
    from core.states import ScanState

    if _ID.fullmatch(subject):
        return subject
    for found in client.scans(subject):
        if found.state != ScanState.RUNNING:
            return found.id
    raise PermanentError(f"no scan of {subject} has ended yet")
