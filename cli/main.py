"""The `histobatch` command: the composition root that builds settings once and starts programs."""

import sys

import typer

from cli import demo, doctor, programs, submissions, training
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
app.command()(submissions.results)
app.command()(training.train)
app.command()(training.export)
app.command()(programs.worker)
app.command()(programs.api)
app.command()(programs.beat)
app.command()(programs.flower)
app.command()(programs.broker)
app.command()(programs.migrate)
app.command()(doctor.doctor)


def main() -> None:
    """Run the command line; expected errors end it with one line and status 1."""
    try:
        app()
    except HistobatchError as error:
        sys.exit(f"histobatch: {error}")


if __name__ == "__main__":
    main()
