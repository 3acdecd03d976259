"""A build's progress on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worker.engines.build_progress import Listener


@contextmanager
def build_progress(console: Console) -> Iterator[Listener]:
    """Show a bar with the phase that goes on and the time that is left."""
    columns = (
        TextColumn("building"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def listen(share: float, phase: str) -> None:
            bar.update(task, completed=share, description=phase)

        yield listen
