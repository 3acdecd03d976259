"""The command that says what keeps this machine from serving."""

import typer


def doctor() -> None:
    """Check Python, engine, model, database, decoding, queue, roots, archives, disk, clock; exits 1 if one is wrong."""
    from rich.console import Console

    from cli.checks import run_checks

    if not run_checks(Console()):
        raise typer.Exit(1)
