"""Commands that talk to a running API: submit, status, results."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.lanes import Lane
from core.states import SubmissionState

if TYPE_CHECKING:
    from cli.client import ApiClient


class ExportFormat(StrEnum):
    """Forms in which results leave."""

    CSV = "csv"
    JSONL = "jsonl"


Address = Annotated[
    str | None, typer.Option("--api", help="Address of the API; by default the one that the settings name.")
]


def submit(
    folder: Annotated[Path, typer.Argument(help="Folder, below an allowed root, as the API's machine sees it.")],
    lane: Annotated[Lane, typer.Option(help="Which queue waits for it.")] = Lane.BULK,
    wait: Annotated[bool, typer.Option(help="Follow it to its end.")] = False,
    api: Address = None,
) -> None:
    """Submit a folder of images; prints the submission's id."""
    client = _client(api)
    submission = client.submit(folder.expanduser().absolute(), lane)
    typer.echo(submission.id)
    if wait:
        _follow(client, submission.id)


def status(
    submission: Annotated[str, typer.Argument(help="Id of the submission.")],
    watch: Annotated[bool, typer.Option("--watch", help="Follow it to its end.")] = False,
    api: Address = None,
) -> None:
    """Show how far a submission is."""
    client = _client(api)
    if watch:
        _follow(client, submission)
        return
    from rich.console import Console

    from cli.progress import print_totals

    console = Console()
    found = client.submission(submission)
    console.print(f"{found.id}  {found.state}  lane {found.lane}")
    print_totals(found, console)


def results(
    submission: Annotated[str, typer.Argument(help="Id of the submission.")],
    form: Annotated[ExportFormat, typer.Option("--format", help="Form of the output.")] = ExportFormat.CSV,
    output: Annotated[Path | None, typer.Option(help="File to write; by default the standard output.")] = None,
    api: Address = None,
) -> None:
    """Write a submission's results, one line an image."""
    client = _client(api)
    if output is None:
        client.export(submission, form.value, sys.stdout.buffer.write)
        return
    with output.open("wb") as stream:
        client.export(submission, form.value, stream.write)


def _client(address: str | None) -> "ApiClient":
    from cli.client import ApiClient
    from core.settings import read_settings

    settings = read_settings()
    return ApiClient(address or f"http://{settings.api_host}:{settings.api_port}", settings)


def _follow(client: "ApiClient", submission_id: str) -> None:
    from rich.console import Console

    from cli.progress import follow, print_totals

    console = Console(stderr=True)
    ended = follow(client, submission_id, console)
    print_totals(ended, console)
    if ended.state != SubmissionState.DONE:
        console.print(f"{ended.state}: {ended.detail or ''}", style="red", markup=False)
        raise typer.Exit(1)
