"""Workers that are killed, stopped, frozen, or ended by an image."""

import signal
from functools import partial
from random import Random

import pytest

from tests.assets.programs import stands_still, wait_until
from tests.assets.rows import batches_of
from tests.faults import faults
from tests.faults.house import name_of
from tests.faults.invariants import assert_nothing_lost_nothing_twice
from tests.faults.supervisor import Kept


def test_killed_workers_lose_and_double_nothing(open_house, store):
    """SIGKILL, three times, while batches are in hand: leases pass on, and every image has one outcome."""
    house = open_house(store)
    house.submit(house.pictures.folder(300))
    for kills in range(3):
        house.wait_for_outcomes(60 * kills + 20)
        faults.kill_worker(house, Random(kills))
    account = assert_nothing_lost_nothing_twice(house)
    assert sum(worker.ends.count(-signal.SIGKILL) for worker in house.workers) == 3
    assert account.wasted < 0.2


def test_stopped_workers_hand_back_what_they_hold(open_house, sqlite_store):
    """SIGTERM: whatever does not finish in time goes back, and no batch counts it as a death."""
    # A lease that a busy machine does not take away; and batches of more than one group, because a worker looks
    # between groups whether it must stop.
    house = open_house(sqlite_store, shutdown_grace_s=0, pause_ms=20, batch_size=100, lease_s=20)
    mine = house.submit(house.pictures.folder(1000))
    # One may have finished its batch when the signal comes: the next is met in the middle of it.
    while not any(worker.is_logged("batch_handed_back") for worker in house.workers):
        wait_until(house.busy_workers, "a worker has a batch in hand")
        for worker in house.busy_workers():
            worker.end(signal.SIGTERM)
    assert_nothing_lost_nothing_twice(house)
    assert any(worker.is_logged("batch_handed_back") for worker in house.workers)
    assert {(batch.attempts, batch.suspect) for batch in batches_of(house.database, mine)} == {(1, False)}


def freeze_with_a_batch_in_hand(house, store) -> tuple[Kept, int]:
    """SIGSTOP a worker that holds a batch but no lock: a frozen writer would stop everybody who uses the file."""
    for _ in range(50):
        wait_until(house.busy_workers, "a worker has a batch in hand")
        victim = house.busy_workers()[0]
        victim.process().suspend()
        wait_until(partial(stands_still, victim.process().pid), "every thread of it stands still")
        held = house.in_hand().get(name_of(victim))
        if held and store.is_writable():
            return victim, held[0]
        victim.process().resume()
    raise AssertionError("in 50 tries no worker was met between two writes")


def test_a_frozen_worker_that_wakes_amid_its_successors_work_writes_nothing(open_house, sqlite_store):
    """SIGSTOP until another takes what it held: who wakes up finds that it lost its batches."""
    house = open_house(sqlite_store, pause_ms=60)
    mine = house.submit(house.pictures.folder(100))
    victim, held = freeze_with_a_batch_in_hand(house, sqlite_store)
    # Not "is in another's hand": little may be left to do of it, and then that is soon over.
    wait_until(
        lambda: any(batch.id == held and batch.attempts > 1 for batch in batches_of(house.database, mine)),
        "another took what it held",
    )
    victim.process().resume()
    assert_nothing_lost_nothing_twice(house)
    assert victim.is_logged("lease_lost")


def test_a_killed_decoding_process_costs_no_image(open_house, sqlite_store):
    """SIGKILL below a worker: what it decoded is decoded again."""
    house = open_house(sqlite_store, workers=1)
    house.submit(house.pictures.folder(200))
    for kills in range(3):
        house.wait_for_outcomes(40 * kills + 20)
        faults.kill_decoder(house, Random(kills))
    assert_nothing_lost_nothing_twice(house)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_image_that_kills_the_engine_is_found_and_its_neighbours_are_not_blamed(
    open_house, sqlite_store, batch_size
):
    """abort() in the engine: suspects run alone, and are split until the one bad image is left with its reason."""
    house = open_house(sqlite_store, batch_size=batch_size, lease_s=1, workers=1)
    house.submit(house.pictures.folder(5, poison=1))
    assert_nothing_lost_nothing_twice(house)
    assert house.workers[0].is_logged("image_kills_worker")
    assert house.workers[0].ends.count(-signal.SIGABRT) >= 2
