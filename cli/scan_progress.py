"""Follow a scan: files that were compared, and images that have an outcome."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

from api.archive_schemas import ScanPublic
from cli.client import ApiClient, ApiRefused
from cli.progress import say_state
from core.states import ScanState

_POLL_S = 0.5


def follow_scan(client: ApiClient, scan: ScanPublic, console: Console) -> ScanPublic:
    """Draw two bars, with the time that is left, until the scan has ended; return its last state.

    How many files there will be nobody knows before the end: as many as the scan before saw is the guess.
    """
    guess = _files_before(client, scan)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        files = progress.add_task("files", total=guess)
        images = progress.add_task("images", total=None)
        while True:
            scan = client.scan(scan.id)
            submission = client.submission(scan.submission_id)
            total = scan.seen if scan.walked_at else guess and max(guess, scan.seen)
            progress.update(files, completed=scan.seen, total=total)
            counts = submission.counts
            progress.update(
                images,
                description=f"images: {say_state(submission)}",
                completed=counts.total - counts.pending,
                total=counts.total if submission.listed else None,
            )
            if scan.state != ScanState.RUNNING:
                return scan
            time.sleep(_POLL_S)


def _files_before(client: ApiClient, scan: ScanPublic) -> int | None:
    if scan.previous_id is None:
        return None
    try:
        return client.scan(scan.previous_id).seen
    except ApiRefused:
        # Retention may have deleted it.
        return None
