"""The images that trainer commands work on, and what is said of those that they leave out."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:  # importing torch's company takes seconds
    from trainer.dataset.images import DataSet


def read_images(source: Path, cache: Path | None = None) -> "DataSet":
    """Read a data set with a progress bar, by way of the cache of decoded images.

    Args:
        source: folder, zip or tar.
        cache: folder of the cache; None takes the user's.
    """
    from trainer.dataset.cache import default_cache
    from trainer.dataset.images import load_dataset
    from trainer.dataset.progress import reading_progress

    with reading_progress() as listener:
        return load_dataset(source, cache or default_cache(), listener)


def tell_left_out(images: "DataSet") -> None:
    """Name on stderr every image that takes no part, and why."""
    for path in images.unknown:
        typer.echo(f"left out, no BreakHis name: {path.name}", err=True)
    for path, reason in images.broken:
        typer.echo(f"left out, {path.name}: {reason}", err=True)
    for first, *others in images.doubles:
        for path in others:
            typer.echo(f"left out, {path.name}: the same pixels as {first.name}", err=True)
    for group in images.contradictory:
        names = ", ".join(path.name for path in group)
        typer.echo(f"left out, the same pixels under names of both classes: {names}", err=True)
