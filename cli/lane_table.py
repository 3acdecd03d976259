"""Show lanes as a table."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from api.service_schemas import LanePublic


def print_lanes(lanes: Sequence[LanePublic], console: Console) -> None:
    """Print a row a lane, and below it a row for each submitter whose images wait there."""
    table = Table()
    table.add_column("lane")
    table.add_column("state", overflow="fold")
    for heading in ("batches waiting", "at broker", "running", "images waiting", "oldest"):
        table.add_column(heading, justify="right")
    for lane in lanes:
        table.add_row(
            lane.lane,
            _state(lane),
            f"{lane.waiting:,}",
            f"{lane.at_broker:,}",
            f"{lane.running:,}",
            f"{lane.waiting_images:,}",
            f"{lane.oldest_s:,.0f} s" if lane.waiting else "-",
        )
        for waiting in lane.submitters:
            table.add_row(
                f"  {waiting.submitter or '-'}",
                f"weight {waiting.weight:g}",
                "",
                "",
                "",
                f"{waiting.waiting_images:,}",
                "",
            )
    console.print(table, markup=False)


def _state(lane: LanePublic) -> str:
    if lane.paused_at is None:
        return "runs"
    return f"paused since {lane.paused_at:%Y-%m-%d %H:%M:%S} UTC by {lane.paused_by}"
