"""Show archives and their scans as tables."""

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from api.archive_schemas import ArchivePublic, ScanPublic
from core.archive_definitions import ArchiveDefinition, find_doubts
from core.bundle import NOTICE
from core.paths import readable
from core.schedule import next_fire
from core.states import ScanState
from core.tables import utc_now

_FOUND = ("new", "changed", "moved", "deleted", "withheld", "settling", "unreadable")
_STYLES = {ScanState.DONE: "green", ScanState.FAILED: "red", ScanState.CANCELLED: "yellow", ScanState.RUNNING: "cyan"}


def print_archives(archives: Sequence[ArchivePublic], console: Console) -> None:
    """Print a row an archive, and below the table what is probably not meant."""
    table = Table()
    for heading in ("archive", "root", "schedule", "window", "next scan", "last scan"):
        table.add_column(heading, overflow="fold")
    for archive in archives:
        table.add_row(
            *map(escape, (archive.name, archive.root, _schedule(archive.schedule, archive.time_zone))),
            archive.window or "always",
            _next(archive),
            _summary(archive.last_scan),
        )
    console.print(table)
    for archive in archives:
        _print_doubts(archive.name, archive.doubts, console)


def print_archive(archive: ArchivePublic, console: Console) -> None:
    """Print every field of an archive, a line each."""
    shown = archive.model_dump(mode="json", exclude={"last_scan", "doubts", "notice", "new_webhook_secret"})
    for name, value in shown.items():
        text = ", ".join(value) if isinstance(value, list) else value
        console.print(f"{name:14}{'-' if text in (None, '') else text}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"{'last_scan':14}", end="", highlight=False)
    console.print(_summary(archive.last_scan), highlight=False, soft_wrap=True)
    _print_doubts(archive.name, archive.doubts, console)


def print_scans(scans: Sequence[ScanPublic], console: Console) -> None:
    """Print a row a scan: what it found, by kind."""
    table = Table(title=NOTICE, title_style="bold")
    for heading in ("scan", "state", "began (UTC)"):
        table.add_column(heading, overflow="fold")
    for heading in ("seen", *_FOUND):
        table.add_column(heading, justify="right")
    for scan in scans:
        counts = (f"{getattr(scan, name):,}" for name in ("seen", *_FOUND))
        table.add_row(scan.id, f"[{_STYLES[scan.state]}]{scan.state}[/]", _moment(scan.started_at), *counts)
    console.print(table)
    for scan in scans:
        if scan.reason:
            console.print(f"{scan.id} {scan.reason}: {scan.detail or ''}", markup=False, soft_wrap=True)


def print_definitions(definitions: Sequence[ArchiveDefinition], console: Console) -> None:
    """Print what a file defines, when each archive would be scanned next, and what is probably not meant."""
    roots = {definition.name: definition.root for definition in definitions}
    console.print(f"{len(definitions)} archives, no faults", highlight=False)
    for definition in definitions:
        moment = definition.schedule and next_fire(definition.schedule, definition.time_zone, utc_now())
        when = f"next scan {_moment(moment)} UTC" if moment and definition.enabled else "no scan by itself"
        line = f"{definition.name}  {readable(definition.root)}  {when}"
        console.print(line, markup=False, highlight=False, soft_wrap=True)
        _print_doubts(definition.name, find_doubts(definition, roots), console)


def print_faults(faults: Sequence[str], console: Console) -> None:
    """Print what is wrong with the file of archives."""
    console.print("The file of archives is not used until this is mended:", style="red", markup=False)
    for fault in faults:
        console.print(f"  {fault}", markup=False, highlight=False, soft_wrap=True)


def _print_doubts(name: str, doubts: Sequence[str], console: Console) -> None:
    for doubt in doubts:
        console.print(f"{name}: {doubt}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def _schedule(schedule: str | None, time_zone: str) -> str:
    return f"{schedule} {time_zone}" if schedule else "-"


def _next(archive: ArchivePublic) -> str:
    if not archive.enabled:
        return "off"
    return f"{_moment(archive.next_at)} UTC" if archive.next_at else "when asked"


def _summary(scan: ScanPublic | None) -> str:
    if scan is None:
        return "none yet"
    found = ", ".join(f"{getattr(scan, name):,} {name}" for name in _FOUND if getattr(scan, name)) or "nothing new"
    why = f" {escape(scan.reason)}" if scan.reason else ""
    return f"{_moment(scan.started_at)} [{_STYLES[scan.state]}]{scan.state}[/]{why}: {found}"


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"
