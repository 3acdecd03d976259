"""The numbers that were promised for faults, each measured on a house of its own."""

import signal
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

from sqlmodel import col, select

from core.lanes import Lane
from core.states import BatchState
from core.tables import Batch, utc_now
from tests.assets.programs import wait_until
from tests.faults import faults
from tests.faults.backlog import queue_without_listing
from tests.faults.house import House, name_of
from tests.faults.invariants import Account, assert_nothing_lost_nothing_twice
from tests.faults.report import Row, Tell
from tests.faults.servers import Store

# One kill for so many images: more would hit the same batch again and again, and condemn an innocent image.
_IMAGES_A_KILL = 100
RECOVERIES = 3
URGENT = 5
_BACKLOG = 100_000
# Different contents in the backlog: more than are classified while the urgent ones wait.
_CONTENTS = 10_000
_LONG_S = 300


def kills_during(images: int) -> int:
    """How often a worker is killed while so many images are classified: 20 times during 2,000."""
    return max(1, images // _IMAGES_A_KILL)


def measure_kills(scratch: Path, store: Store, tell: Tell, *, images: int, engine: str, seed: int) -> list[Row]:
    """SIGKILL a busy worker of two, again and again while the images are classified."""
    kills = kills_during(images)
    house = House(scratch, store, engine=engine, pause_ms=10)
    try:
        random = Random(seed)
        house.submit(house.pictures.folder(images))
        for kill in range(kills):
            house.wait_for_outcomes(_IMAGES_A_KILL * kill + 1, _LONG_S)
            # At any moment of a batch, and not always right after another was closed.
            time.sleep(random.uniform(0, 0.4))
            wait_until(house.busy_workers, "a worker has a batch in hand")
            faults.kill_worker(house, random)
            tell(kill + 1)
        account = assert_nothing_lost_nothing_twice(house, _LONG_S)
        killed = sum(worker.ends.count(-signal.SIGKILL) for worker in house.workers)
    finally:
        house.close()
    return [Row("SIGKILL during the images", f"{kills}", f"{killed}", killed == kills), *_rows_of(account, images)]


def _rows_of(account: Account, images: int) -> list[Row]:
    return [
        Row("images with one outcome", f"{images}", f"{account.outcomes}", account.outcomes == images),
        Row("lost", "0", f"{account.lost}", account.lost == 0),
        Row("doubled", "0", f"{account.doubled}", account.doubled == 0),
        Row("computed again", "< 5 %", f"{account.wasted:.1%} ({account.computed_again})", account.wasted < 0.05),
    ]


def measure_wipe(scratch: Path, store: Store, tell: Tell, *, images: int, engine: str) -> list[Row]:
    """FLUSHALL in the middle of a run that nobody helps afterwards."""
    house = House(scratch, store, engine=engine, pause_ms=10)
    try:
        house.submit(house.pictures.folder(images))
        house.wait_for_outcomes(images // 4, _LONG_S)
        house.broker.wipe()
        start = time.monotonic()
        left = images - house.outcomes()
        while house.open_submissions() and time.monotonic() - start < _LONG_S:
            tell(house.outcomes())
            time.sleep(0.2)
        took_s = time.monotonic() - start
        tell(images)
        assert_nothing_lost_nothing_twice(house, settle_s=1)
    finally:
        house.close()
    return [Row(f"Valkey wiped, {left} images to go", "finishes with no human", f"after {took_s:.0f} s", True)]


def measure_recovery(scratch: Path, store: Store, tell: Tell, *, seed: int) -> list[Row]:
    """SIGKILL a busy worker of two with the leases of production, until what it held is closed by the other."""
    house = House(scratch, store, lease_s=8, reconcile_every_s=10, pause_ms=25)
    took_s: list[float] = []
    try:
        random = Random(seed)
        while len(took_s) < RECOVERIES:
            house.submit(house.pictures.folder(300))
            wait_until(house.busy_workers, "a worker has a batch in hand")
            victim = random.choice(house.busy_workers() or house.workers)
            name = name_of(victim)
            victim.kill()
            start = time.monotonic()
            # What a dead worker holds changes no more. Where it had just finished, there is nothing to recover.
            if held := house.in_hand().get(name, []):
                wait_until(lambda held=held: _are_closed(house, held), "what it held is closed", _LONG_S)
                took_s.append(time.monotonic() - start)
                tell(len(took_s))
            house.settle(_LONG_S)
        assert_nothing_lost_nothing_twice(house, _LONG_S)
    finally:
        house.close()
    worst_s = max(took_s)
    return [Row(f"a killed worker's batch closed, worst of {RECOVERIES}", "< 15 s", f"{worst_s:.1f} s", worst_s < 15)]


def _are_closed(house: House, batch_ids: Sequence[int]) -> bool:
    query = select(Batch.state).where(col(Batch.id).in_(batch_ids))
    return all(state == BatchState.DONE for state in house.ask(lambda session: session.exec(query).all()))


def measure_urgent(scratch: Path, store: Store, tell: Tell) -> list[Row]:
    """Hand urgent folders in while 100,000 bulk images wait, in batches of the usual size."""
    house = House(scratch, store, batch_size=256, lease_s=8, reconcile_every_s=10, api=True, pause_ms=10)
    try:
        begin = utc_now()
        queue_without_listing(house, house.pictures.folder(_CONTENTS), _BACKLOG)
        wait_until(lambda: sum(map(len, house.in_hand().values())) == 4, "every thread of the workers is busy")
        waits_s = []
        for number in range(URGENT):
            asked_at = utc_now()
            mine = house.submit(house.pictures.folder(8), Lane.URGENT)
            wait_until(lambda mine=mine: _starts(house, mine), "the urgent batch starts", _LONG_S)
            waits_s.append((min(_starts(house, mine)) - asked_at).total_seconds())
            tell(number + 1)
        waiting = house.waiting()
        done = select(Batch.wall_ms).where(
            Batch.lane == Lane.BULK, Batch.state == BatchState.DONE, col(Batch.started_at) >= begin
        )
        batch_s = statistics.median(house.ask(lambda session: session.exec(done).all())) / 1000
    finally:
        house.close()
    worst_s = max(waits_s)
    asked = f"< a batch's {batch_s:.1f} s + 2 s"
    return [
        Row("bulk images that wait then", f"about {_BACKLOG}", f"{waiting}", waiting > 0.9 * _BACKLOG),
        Row(f"urgent wait, worst of {URGENT}", asked, f"{worst_s:.1f} s", worst_s < batch_s + 2),
    ]


def _starts(house: House, submission_id: str) -> Sequence[object]:
    query = select(Batch.started_at).where(Batch.submission_id == submission_id, col(Batch.started_at).is_not(None))
    return house.ask(lambda session: session.exec(query).all())
