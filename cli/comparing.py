"""`histobatch compare`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from cli.images import read_images, tell_left_out
from cli.training import require_trainer
from core.bundle import NOTICE
from core.errors import ConfigurationError

if TYPE_CHECKING:
    from trainer.compare_protocol import ComparisonPlan
    from trainer.compare_table import Comparison, Row
    from trainer.fit import StepReport
    from trainer.systems.catalogue import SystemEntry

# Added to a system's GMAC for each step: what augmentation and the optimiser cost, about, whatever the network.
_STEP_OVERHEAD = 0.1
_QUICK = "smoke"
_FILE_WIDTH = 170  # columns of the table in a file or a pipe, where nothing needs to be broken


def compare(
    data: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Folder, zip or tar that holds BreaKHis_v1, or SOB_ images.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the tables; an interrupted comparison in it is continued.")],
    recipe: Annotated[str, typer.Option(help="Named recipe, the same for every system.")] = "patient",
    systems: Annotated[str, typer.Option(help="Names with commas between; all where none is named.")] = "",
    weights: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE", help="ImageNet weights of a network, safetensors; may be repeated."),
    ] = None,
    hub: Annotated[bool, typer.Option("--hub", help="Fetch torchvision's weights where no file is named.")] = False,
    folds: Annotated[int, typer.Option(min=2, help="Patient-disjoint folds.")] = 5,
    judged_folds: Annotated[
        int | None, typer.Option(min=1, help="How many folds are judged; all, with the smoke recipe one.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Steps a fit, instead of the recipe's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of folds, weights, batches and augmentation.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder that keeps decoded images for further runs.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; a GPU where there is one.")] = None,
) -> None:
    """Train the systems of the paper's table under one protocol, patients apart. Research use only."""
    require_trainer()
    from trainer.compare import run_comparison
    from trainer.compare_protocol import ComparisonPlan
    from trainer.device import choose_device
    from trainer.recipe import named_recipe
    from trainer.systems.catalogue import chosen_systems
    from trainer.systems.weights import WeightSource

    chosen = named_recipe(recipe)
    plan = ComparisonPlan(
        recipe=chosen if steps is None else chosen.with_steps(steps),
        systems=chosen_systems(tuple(name.strip() for name in systems.split(",") if name.strip())),
        source=WeightSource(_named_files(weights or []), hub),
        folds=folds,
        judged_folds=judged_folds or (1 if recipe == _QUICK else folds),
        seed=seed,
        device=choose_device(device),
    )
    images = read_images(data, cache)
    console = Console()
    if not console.is_terminal:
        console = Console(width=max(console.width, _FILE_WIDTH))
    console.print(f"{len(images)} images of {images.patient_count} patients. {NOTICE}")
    tell_left_out(images)
    for entry in plan.systems:
        console.print(f"{entry.name}: {entry.start(plan.source)}", soft_wrap=True)
    with _shown_progress(plan, console) as watcher:
        comparison = run_comparison(images, plan, out, watcher)
    _print(comparison, console)
    console.print(f"tables and picture: {out}", soft_wrap=True)


def _named_files(options: list[str]) -> dict[str, Path]:
    """Read NAME=FILE options.

    Raises:
        ConfigurationError: one is malformed, or a name stands twice.
    """
    files: dict[str, Path] = {}
    for option in options:
        name, equals, file = option.partition("=")
        if not name or not equals or not file:
            raise ConfigurationError(f"--weights {option!r}: write NAME=FILE, such as vgg19=vgg19.safetensors")
        if name in files:
            raise ConfigurationError(f"--weights names {name} twice ({files[name]}, {file}): keep one")
        files[name] = Path(file)
    return files


class _ProgressWatcher:
    """One bar over all systems, in which a step weighs what it costs."""

    def __init__(self, plan: "ComparisonPlan", bar: Progress) -> None:
        from trainer.systems.cost import gmac_of, weightless

        fits = plan.recipe.total_steps * plan.judged_folds
        self._bar = bar
        self._cost = {entry.name: gmac_of(weightless(entry)) + _STEP_OVERHEAD for entry in plan.systems}
        self._fits = fits
        self._done = 0.0
        self._task: TaskID = bar.add_task("training", total=fits * sum(self._cost.values()))

    def step(self, entry: "SystemEntry", report: "StepReport") -> None:
        """Move the bar by what a step of this system costs."""
        text = f"{entry.name}: loss {report.loss:.3f}, {report.images_per_s:.0f} images/s"
        self._bar.update(self._task, advance=self._cost[entry.name], description=text)

    def finished(self, entry: "SystemEntry", row: "Row", *, before: bool) -> None:
        """Set the bar to the end of the system, wherever its training ended, and say what came out."""
        self._done += self._fits * self._cost[entry.name]
        self._bar.update(self._task, completed=self._done)
        found = row.outcome if row.accuracy is None else f"accuracy {row.accuracy:.3f}"
        when = "measured before" if before else f"{row.seconds:.0f} s"
        self._bar.console.print(f"{entry.name}: {found} ({when})", soft_wrap=True)


@contextmanager
def _shown_progress(plan: "ComparisonPlan", console: Console) -> Iterator[_ProgressWatcher]:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        yield _ProgressWatcher(plan, bar)


def _print(comparison: "Comparison", console: Console) -> None:
    from trainer.compare_table import HEADER, cells

    table = Table(title=f"Systems under one protocol. {comparison.notice}")
    for name in HEADER:
        table.add_column(name, justify="left" if name in {"system", "start"} else "right")
    for row in comparison.systems:
        table.add_row(*cells(row))
    console.print(table)
    console.print(comparison.protocol_text, soft_wrap=True)
