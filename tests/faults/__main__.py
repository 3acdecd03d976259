"""Measure what the system promises under faults: `python -m tests.faults --seed N`."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Literal

import stamina
import typer
from rich.console import Console

from tests.faults.clock import preload_library
from tests.faults.disk import SmallDisk
from tests.faults.house import House
from tests.faults.invariants import assert_nothing_lost_nothing_twice
from tests.faults.measurements import (
    RECOVERIES,
    URGENT,
    kills_during,
    measure_kills,
    measure_recovery,
    measure_urgent,
    measure_wipe,
)
from tests.faults.report import Row, Tell, print_table, telling
from tests.faults.schedule import draw_schedule, play
from tests.faults.servers import PostgresServer, PostgresStore, SqliteStore, Store

Kind = Literal["sqlite", "postgresql"]
_SPACING_S = (0.3, 2.0)
_SETTLE_S = 300


def main(
    *,
    seed: Annotated[int | None, typer.Option(help="Repeats the choices of a run; random otherwise.")] = None,
    faults: Annotated[int, typer.Option(help="Random faults on each database.")] = 500,
    database: Annotated[Literal["sqlite", "postgresql", "both"], typer.Option()] = "both",
    images: Annotated[int, typer.Option(help="Images of the runs with SIGKILL and with a wiped broker.")] = 2000,
    engine: Annotated[Literal["fake", "openvino"], typer.Option(help="Of those runs.")] = "fake",
    part: Annotated[Literal["all", "kills", "wipe", "recovery", "urgent", "random"], typer.Option()] = "all",
) -> None:
    """Break a real system in every way we know, and print what was asked and what was measured."""
    seed = SystemRandom().randrange(10**6) if seed is None else seed
    console = Console()
    console.print(f"seed {seed}")
    # The schedule breaks connections of ours, too; that each is tried again is no news.
    stamina.instrumentation.set_on_retry_hooks([])
    kinds: list[Kind] = ["sqlite", "postgresql"] if database == "both" else [database]
    rows: list[Row] = []
    with ExitStack() as stack:
        server = stack.enter_context(_postgres()) if "postgresql" in kinds else None
        for kind in kinds:
            for measured in _parts(seed, faults, images, engine):
                if part in ("all", measured.name):
                    rows += _run(measured, kind, server, console)
    print_table(rows, f"seed {seed}", console)
    sys.exit(any(not row.passed for row in rows))


@dataclass(frozen=True)
class _Part:
    """One measurement, and the steps that its progress shows."""

    name: str
    steps: int
    measure: Callable[[Path, Store, Tell], list[Row]]


def _parts(seed: int, faults: int, images: int, engine: str) -> list[_Part]:
    return [
        _Part("kills", kills_during(images), partial(measure_kills, images=images, engine=engine, seed=seed)),
        _Part("wipe", images, partial(measure_wipe, images=images, engine=engine)),
        _Part("recovery", RECOVERIES, partial(measure_recovery, seed=seed)),
        _Part("urgent", URGENT, measure_urgent),
        _Part("random", faults, partial(_play_random, seed=seed, number=faults)),
    ]


def _run(part: _Part, kind: Kind, server: PostgresServer | None, console: Console) -> list[Row]:
    """Measure one part on one database. Its folder, with all logs, stays where it fails."""
    scratch = Path(tempfile.mkdtemp(prefix=f"histobatch-faults-{part.name}-"))
    with _open_store(kind, scratch, server) as store, telling(console, f"{part.name} on {kind}", part.steps) as tell:
        try:
            rows = part.measure(scratch / "house", store, tell)
        except Exception as error:  # whatever it is, it is a row of the table and not the end of the run
            console.print_exception()
            rows = [Row(part.name, "no error", f"{type(error).__name__}: {error}"[:300], False)]
    if all(row.passed for row in rows):
        shutil.rmtree(scratch)
    else:
        console.print(f"logs: {scratch}")
    return [Row(f"{kind}: {row.what}", row.asked, row.measured, row.passed) for row in rows]


def _play_random(scratch: Path, store: Store, tell: Tell, *, seed: int, number: int) -> list[Row]:
    house = House(scratch, store, beats=2, api=True, pause_ms=15, clock_library=preload_library())
    try:
        done = iter(range(1, number + 1))
        happened = play(house, draw_schedule(house, seed, number, _SPACING_S), lambda _: tell(next(done)))
        account = assert_nothing_lost_nothing_twice(house, _SETTLE_S)
    finally:
        house.close()
    text = f"{account.outcomes} of {account.images} images, {account.wasted:.1%} computed again"
    return [
        Row(f"random faults of {len(happened)} kinds", f"{number}", f"{happened.total()}", happened.total() == number),
        Row("images with one outcome after them", "all", text, account.outcomes == account.images),
    ]


@contextmanager
def _postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def _open_store(kind: Kind, scratch: Path, server: PostgresServer | None) -> Iterator[Store]:
    if kind == "postgresql":
        assert server is not None
        yield PostgresStore(server)
        return
    with ExitStack() as stack:
        try:
            disk = SmallDisk(scratch / "disk")
            stack.callback(disk.close)
        except PermissionError:
            # Then this run has no full disks.
            disk = None
        yield SqliteStore(scratch, disk)


if __name__ == "__main__":
    typer.run(main)
