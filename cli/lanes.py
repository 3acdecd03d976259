"""`histobatch lanes`: what waits in each lane; holding one back and letting it go on."""

from typing import TYPE_CHECKING, Annotated

import typer

from cli.address import Address, connect
from core.lanes import Lane

if TYPE_CHECKING:
    from cli.client import ApiClient

app = typer.Typer(add_completion=False)

LaneArgument = Annotated[Lane, typer.Argument(help="Which lane.")]


@app.callback(invoke_without_command=True)
def lanes(context: typer.Context, api: Address = None) -> None:
    """Show what waits and runs in each lane, and whose images wait; or pause and resume one."""
    context.obj = api
    if context.invoked_subcommand is None:
        from rich.console import Console

        from cli.lane_table import print_lanes

        print_lanes(connect(api).lanes(), Console())


@app.command()
def pause(context: typer.Context, lane: LaneArgument, api: Address = None) -> None:
    """Start no more batches of a lane; those in hand finish."""
    paused = _client(context, api).pause(lane)
    typer.echo(f"{lane} is paused since {paused.paused_at:%Y-%m-%d %H:%M:%S} UTC by {paused.paused_by}")


@app.command()
def resume(context: typer.Context, lane: LaneArgument, api: Address = None) -> None:
    """Let a paused lane go on; workers get its batches within seconds."""
    _client(context, api).resume(lane)
    typer.echo(f"{lane} runs")


def _client(context: typer.Context, address: str | None) -> "ApiClient":
    # `histobatch lanes --api ADDRESS pause LANE` must not pause a lane of another API.
    return connect(address or context.obj)
