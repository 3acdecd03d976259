"""Training progress on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from trainer.fit import Listener, StepReport


@contextmanager
def training_progress(total_steps: int) -> Iterator[Listener]:
    """Show one bar for all steps of a run, with loss, accuracy, images/s and the time left.

    Steps of a resumed fit that were done before count as done at once. Where the output is no terminal, rich prints
    nothing but the last state; log.csv holds every step.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  accuracy {task.fields[accuracy]:.2f}"),
        TextColumn("{task.fields[speed]:.0f} images/s  left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        last = 0
        task = bar.add_task("training", total=total_steps, loss=float("nan"), accuracy=0.0, speed=0.0)

        def listen(report: StepReport) -> None:
            nonlocal last
            before = last if report.step > last else 0  # another fit begins
            last = report.step
            bar.update(task, advance=last - before)
            bar.update(task, loss=report.loss, accuracy=report.accuracy, speed=report.images_per_s)

        yield listen
