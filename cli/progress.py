"""Show a submission's progress, and its results as a table."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from api.schemas import CountsPublic, ItemPublic, SubmissionPublic
from cli.client import ApiClient
from core.bundle import NOTICE
from core.states import ItemState

# For models that the API has no bundle of, such as the fake one.
_DEFAULT_THRESHOLD = 0.5
_STYLES = {"benign": "green", "malignant": "red", "uncertain": "yellow"}


def follow(
    client: ApiClient, submission_id: str, console: Console, on_first_outcome: Callable[[], None] = lambda: None
) -> SubmissionPublic:
    """Draw a progress bar with rate and ETA until the submission has ended; return its last state.

    A submission that waits, for storage or for room, has not ended: the bar says what for.

    Args:
        on_first_outcome: called once, when the first image has an outcome.
    """
    waiting = True
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[eta]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("waiting", total=None, rate="", eta="")
        for submission in client.watch(submission_id):
            counts = submission.counts
            if waiting and counts.pending < counts.total:
                waiting = False
                on_first_outcome()
            progress.update(
                task,
                description=say_state(submission),
                total=counts.total if submission.listed else None,
                completed=counts.total - counts.pending,
                rate=f"{submission.images_per_s:.0f} images/s" if submission.images_per_s else "",
                eta=f"ETA {_duration(submission.eta_s)}" if submission.eta_s is not None else "",
            )
    return submission


def say_state(submission: SubmissionPublic) -> str:
    """Name the state; of a submission that waits, instead, what for and until when."""
    if submission.retry_at is None:
        return str(submission.state)
    why = (submission.reason or submission.state).replace("_", " ")
    return f"{why}, next try at {submission.retry_at.astimezone(UTC):%H:%M:%S} UTC"


def print_state(submission: SubmissionPublic, console: Console) -> None:
    """Print where a submission stands, and of one that waits why, until when, and what can be done."""
    lines = [f"{submission.id}  {submission.state}  lane {submission.lane}"]
    if submission.reason:
        lines.append(f"  {submission.reason}: {submission.detail or ''}")
    if submission.retry_at:
        moment = submission.retry_at.astimezone(UTC)
        lines.append(f"  next try at {moment:%Y-%m-%d %H:%M:%S} UTC; to try now: histobatch retry {submission.id}")
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def print_items(items: Iterable[ItemPublic], console: Console, *, thresholds: Mapping[str, float], limit: int) -> None:
    """Print files with their outcomes, by path; those that were never meant to be classified are left out.

    Args:
        thresholds: probability from which an image's class is malignant, by model version.
    """
    shown = sorted((item for item in items if item.state != ItemState.SKIPPED), key=lambda item: item.path)
    table = Table(title=NOTICE, title_style="bold", caption=_caption(len(shown), limit))
    for heading, justify in (
        ("file", "left"),
        ("class", "left"),
        ("probability", "right"),
        ("decision", "left"),
        ("ms", "right"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for item in shown[:limit]:
        table.add_row(*_row(item, thresholds))
    console.print(table)


def print_totals(submission: SubmissionPublic, console: Console) -> None:
    """Print counts by outcome, reasons and the rate."""
    console.print(f"{submission.counts.total} files: {_counts(submission.counts)}")
    for reason, number in sorted(submission.failures.items()):
        console.print(f"  {reason}: {number}", highlight=False)
    if submission.images_per_s:
        console.print(f"{submission.images_per_s:.1f} images/s from listing to the last outcome")


def _row(item: ItemPublic, thresholds: Mapping[str, float]) -> tuple[str, ...]:
    if item.probability is None or item.decision is None:
        return item.path, "-", "-", f"[magenta]{item.state}: {item.reason or 'pending'}[/]", "-"
    threshold = thresholds.get(item.model_version or "", _DEFAULT_THRESHOLD)
    name = "malignant" if item.probability >= threshold else "benign"
    decision = f"[{_STYLES[item.decision]}]{item.decision}[/]"
    return item.path, name, f"{item.probability:.4f}", decision, f"{item.elapsed_ms:.1f}"


def _counts(counts: CountsPublic) -> str:
    parts = {
        name: getattr(counts, name) for name in ("benign", "malignant", "uncertain", "failed", "skipped", "pending")
    }
    return ", ".join(f"{number} {name}" for name, number in parts.items() if number) or "none"


def _caption(number: int, limit: int) -> str | None:
    return f"the first {limit} of {number}; the rest in results.csv" if number > limit else None


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
