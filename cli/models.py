"""`histobatch models`: which models there are and which one serves; rolling one out, and back."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli.address import Address, connect

if TYPE_CHECKING:
    from api.model_schemas import ActivationPublic
    from cli.client import ApiClient

app = typer.Typer(add_completion=False, no_args_is_help=True)

Note = Annotated[str, typer.Option(help="Why, for the audit; nothing about a patient.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until every worker that is present serves it.")]
TimeoutS = Annotated[float, typer.Option(min=0, help="Seconds after which --wait gives up.")]


@app.command("list")
def list_(api: Address = None) -> None:
    """Show every model, how good it is, which one serves since when and by whom, and what each worker serves."""
    from rich.console import Console

    from cli.model_table import print_models

    client = connect(api)
    print_models(client.models(), client.workers(), Console())


@app.command()
def activate(
    model: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A model on the API's machine.")],
    note: Note = "",
    wait: Wait = False,
    timeout_s: TimeoutS = 900,
    api: Address = None,
) -> None:
    """Make a model the one that serves, once every file of its bundle was verified. No worker needs a restart."""
    client = connect(api)
    _say(client, client.activate(model, note), timeout_s if wait else None)


@app.command()
def rollback(note: Note = "", wait: Wait = False, timeout_s: TimeoutS = 900, api: Address = None) -> None:
    """Return to the model that served before the last activation; once more goes one step further back."""
    client = connect(api)
    active = client.models().activation
    _say(client, client.roll_back(active.model_version if active else None, note), timeout_s if wait else None)


def _say(client: "ApiClient", activation: "ActivationPublic", timeout_s: float | None) -> None:
    typer.echo(
        f"{activation.model_version} serves since {activation.at:%Y-%m-%d %H:%M:%S} UTC by {activation.who}; "
        f"a rollback would return to {activation.before or 'nothing: none served before'}"
    )
    if timeout_s is None:
        return
    from cli.rollout_progress import follow_rollout

    if not follow_rollout(client.workers, activation.model_version, timeout_s):
        sys.exit(1)
