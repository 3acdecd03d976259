"""Progress of reading a data set, on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.dataset.pool import Listener


@contextmanager
def reading_progress() -> Iterator[Listener]:
    """Show a bar with images/s and the time left on stderr; nothing where that is no terminal, or nothing is read."""
    columns = (
        TextColumn("decoding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]:.0f} images/s  left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("decoding", total=None, visible=False, speed=0.0)

        def listen(done: int, files: int) -> None:
            bar.update(task, completed=done, total=files, visible=True, speed=bar.tasks[0].speed or 0.0)

        yield listen
