"""Commands about submissions that talk to a running API: submit, status, retry, results."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.address import Address, connect
from core.lanes import Lane
from core.states import SubmissionState

if TYPE_CHECKING:
    from cli.client import ApiClient


class ExportFormat(StrEnum):
    """Forms in which results leave."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    HTML = "html"
    JSON = "json"


class What(StrEnum):
    """What of a submission leaves."""

    IMAGES = "images"
    PATIENTS = "patients"
    SLIDES = "slides"
    REPORT = "report"


# What leaves in which forms, the usual one first, and under which name the API has it.
_FORMS = {
    What.IMAGES: ("results", (ExportFormat.CSV, ExportFormat.JSONL, ExportFormat.PARQUET)),
    What.PATIENTS: ("patients", (ExportFormat.CSV,)),
    What.SLIDES: ("slides", (ExportFormat.CSV,)),
    What.REPORT: ("report", (ExportFormat.HTML, ExportFormat.JSON)),
}


def submit(
    folder: Annotated[Path, typer.Argument(help="Folder, below an allowed root, as the API's machine sees it.")],
    lane: Annotated[Lane, typer.Option(help="Which queue waits for it.")] = Lane.BULK,
    wait: Annotated[bool, typer.Option(help="Follow it to its end.")] = False,
    api: Address = None,
) -> None:
    """Submit a folder of images; prints the submission's id."""
    client = connect(api)
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
    client = connect(api)
    if watch:
        _follow(client, submission)
        return
    from rich.console import Console

    from cli.progress import print_state, print_totals

    console = Console()
    found = client.submission(submission)
    print_state(found, console)
    print_totals(found, console)


def retry(
    submission: Annotated[str, typer.Argument(help="Id of the submission.")],
    api: Address = None,
) -> None:
    """Try a submission now that waits for its storage or for room."""
    from rich.console import Console

    from cli.progress import print_state

    print_state(connect(api).retry(submission), Console())


def results(
    submission: Annotated[str, typer.Argument(help="Id of the submission.")],
    form: Annotated[
        ExportFormat | None, typer.Option("--format", help="Form of the output; by default csv, of a report html.")
    ] = None,
    what: Annotated[
        What, typer.Option(help="A line an image, a line a patient or slide, or the report.")
    ] = What.IMAGES,
    output: Annotated[Path | None, typer.Option(help="File to write; by default the standard output.")] = None,
    api: Address = None,
) -> None:
    """Write a submission's results: one line an image, or all together by patient, by slide, or as a report."""
    name, forms = _FORMS[what]
    chosen = form or forms[0]
    if chosen not in forms:
        raise typer.BadParameter(f"{what} come as {', '.join(forms)}", param_hint="--format")
    if chosen == ExportFormat.PARQUET and output is None and sys.stdout.isatty():
        raise typer.BadParameter("parquet is no text: name a file", param_hint="--output")
    client = connect(api)
    address = f"/v1/submissions/{submission}/{name}.{chosen}"
    if output is None:
        client.download(address, sys.stdout.buffer.write)
        return
    with output.open("wb") as stream:
        client.download(address, stream.write)


def _follow(client: "ApiClient", submission_id: str) -> None:
    from rich.console import Console

    from cli.progress import follow, print_totals

    console = Console(stderr=True)
    ended = follow(client, submission_id, console)
    print_totals(ended, console)
    if ended.state != SubmissionState.DONE:
        console.print(f"{ended.state}: {ended.detail or ''}", style="red", markup=False)
        raise typer.Exit(1)
