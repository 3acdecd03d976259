"""The command that shows the whole system on one machine."""

from pathlib import Path
from typing import Annotated

import typer

_SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def demo(
    folder: Annotated[Path, typer.Argument(help="Folder of images; by default the samples.")] = _SAMPLES,
    once: Annotated[bool, typer.Option("--once", help="End after the table.")] = False,
) -> None:
    """Classify a folder with the whole system on this machine.

    REDIS_URL and DATABASE_URL, when set, name a broker and a database to use instead of embedded ones.
    """
    from rich.console import Console

    from cli.embedded import run_demo

    console = Console()
    try:
        run_demo(folder, once=once, console=console)
    except KeyboardInterrupt:
        console.print("Stopped.")
        if once:  # the table may not have been shown
            raise typer.Exit(130) from None
