"""Random faults, drawn from a seed and played against a house; some of them overlap."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random

from core.lanes import Lane
from tests.faults import faults
from tests.faults.faults import Fault
from tests.faults.house import House

# Faults that last and go on at once, at most.
_AT_ONCE = 6
# Images without an outcome below which another folder is handed in.
_LEAST_WAITING = 150
_LOOK_S = 0.3

# How often each comes, beside the others. An image that kills costs some eight lives of workers.
_ALWAYS: dict[Fault, float] = {
    faults.kill_worker: 3,
    faults.stop_worker: 2,
    faults.freeze_worker: 2,
    faults.doze_worker: 1,
    faults.kill_decoder: 2,
    faults.kill_beat: 1,
    faults.kill_api: 1,
    faults.restart_broker: 2,
    faults.replace_broker: 1,
    faults.wipe_broker: 1,
    faults.cut_broker: 2,
    faults.hold_broker: 2,
    faults.repeat_messages: 1,
    faults.submit_poison: 0.2,
}
_POSTGRES: dict[Fault, float] = {faults.restart_database: 2, faults.cut_database: 2, faults.hold_database: 2}
_SQLITE: dict[Fault, float] = {faults.lock_database: 2}
_SMALL_DISK: dict[Fault, float] = {faults.fill_disk: 2}
# Only in a house that was given clocks.
_CLOCKS: dict[Fault, float] = {faults.jump_clock: 1}


@dataclass(frozen=True)
class Strike:
    """One fault: how long to wait before it, and the seed of its own choices."""

    after_s: float
    fault: Fault
    seed: int


def draw_schedule(house: House, seed: int, number: int, spacing_s: tuple[float, float]) -> list[Strike]:
    """Draw faults that can happen to this house; the same seed draws the same ones."""
    random = Random(seed)
    weights = possible_faults(house)
    drawn = random.choices(list(weights), list(weights.values()), k=number)
    return [Strike(random.uniform(*spacing_s), fault, random.getrandbits(32)) for fault in drawn]


def possible_faults(house: House) -> dict[Fault, float]:
    """The faults that can happen to a house, with their weights."""
    weights = _ALWAYS | (_POSTGRES if house.store.kind == "postgresql" else _SQLITE)
    if house.store.disk is not None:
        weights |= _SMALL_DISK
    if house.clocks:
        weights |= _CLOCKS
    return weights


def play(house: House, schedule: Sequence[Strike], tell: Callable[[Strike], object] = lambda _: None) -> Counter[str]:
    """Let the faults happen while submissions keep coming in; how often each did.

    Raises:
        Exception: what a fault raised that could not do its damage.
    """
    # Beside the programs' logs, to be read together with them.
    log = (house.scratch / "faults.log").open("w", buffering=1)
    with log, _fed(house), ThreadPoolExecutor(_AT_ONCE) as threads:
        strikes: list[Future[None]] = []
        for strike in schedule:
            # The pauses are part of what was drawn.
            time.sleep(strike.after_s)
            strikes.append(threads.submit(strike.fault, house, Random(strike.seed)))
            log.write(f"{datetime.now(UTC):%H:%M:%S.%f} {strike.fault.__name__} {strike.seed}\n")
            tell(strike)
    for future in strikes:
        future.result()
    return Counter(strike.fault.__name__ for strike in schedule)


@contextmanager
def _fed(house: House) -> Iterator[None]:
    """Hand folders in while the block runs, so that there is always work, some of it twice."""
    is_over = threading.Event()
    with ThreadPoolExecutor(1) as thread:
        feeding = thread.submit(_feed, house, is_over)
        try:
            yield
        finally:
            is_over.set()
        feeding.result()


def _feed(house: House, is_over: threading.Event) -> None:
    lanes = itertools.cycle(Lane)
    while not is_over.wait(_LOOK_S):
        if house.waiting() < _LEAST_WAITING:
            house.submit(house.pictures.folder(50, repeated=6), next(lanes))
