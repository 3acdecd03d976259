"""The `histobatch` command: the composition root that builds settings once and starts programs."""

import sys

import typer

from cli import (
    archives,
    audit,
    backup,
    comparing,
    compiling,
    dataset,
    demo,
    doctor,
    engines,
    judging,
    keys,
    lanes,
    models,
    programs,
    retention,
    submissions,
    training,
)
from core.errors import HistobatchError

app = typer.Typer(
    name="histobatch",
    help="Classify breast-histology images in batches. Research use only, not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(demo.demo)
app.command()(submissions.submit)
app.command()(submissions.status)
app.command()(submissions.retry)
app.command()(submissions.results)
app.add_typer(lanes.app, name="lanes")
app.add_typer(archives.app, name="archives", help="Folders that are scanned again and again.")
app.add_typer(retention.app, name="retention", help="Delete what is too old to be kept, or take its names.")
app.add_typer(audit.app, name="audit", help="Who did what, and whether the record of it is whole.")
app.add_typer(keys.app, name="keys", help="Who may ask the API, and for what.")
app.command()(dataset.dataset)
app.command()(training.train)
app.command()(training.export)
app.command()(judging.evaluate)
app.command()(judging.report)
app.command()(comparing.compare)
app.command("compile")(compiling.compile_)
app.add_typer(engines.app, name="engines")
app.add_typer(models.app, name="models", help="Which models there are, and which one serves.")
app.command()(programs.worker)
app.command()(programs.api)
app.command()(programs.beat)
app.command()(programs.flower)
app.command()(programs.broker)
app.command()(programs.migrate)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command line; expected errors end it with one line and status 1."""
    try:
        app()
    except HistobatchError as error:
        sys.exit(f"histobatch: {error}")


if __name__ == "__main__":
    main()
