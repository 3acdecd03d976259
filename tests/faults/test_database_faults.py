"""A database that restarts, is cut off, is locked, or has no room left."""

import time
from random import Random

from tests.assets.rows import batches_of
from tests.faults import faults
from tests.faults.invariants import assert_nothing_lost_nothing_twice


def test_postgres_that_restarts_loses_nothing(open_house, postgres_store):
    """As after a crash and in order, three times: tasks try again, and what was committed stays."""
    house = open_house(postgres_store, workers=1, pause_ms=15)
    house.submit(house.pictures.folder(300))
    for restarts in range(3):
        house.wait_for_outcomes(60 * restarts + 20)
        faults.restart_database(house, Random(restarts))
    assert_nothing_lost_nothing_twice(house)
    assert house.workers[0].is_logged("retry")


def test_connections_to_postgres_that_break_lose_and_double_nothing(open_house, postgres_store):
    """A connection may break after a commit and before its answer: what is done again changes nothing."""
    house = open_house(postgres_store, workers=1)
    house.submit(house.pictures.folder(400))
    for cuts in range(5):
        house.wait_for_outcomes(40 * cuts + 20)
        faults.cut_database(house, Random(cuts))
    faults.hold_database(house, Random(0))
    assert_nothing_lost_nothing_twice(house)


def test_a_locked_sqlite_file_is_waited_for(open_house, sqlite_store):
    """Another program keeps writers out for longer than a lease: no batch fails, and no image is blamed."""
    house = open_house(sqlite_store)
    house.submit(house.pictures.folder(200))
    house.wait_for_outcomes(20)
    sqlite_store.lock(1.5 * house.settings.lease_s)
    assert_nothing_lost_nothing_twice(house)


def test_nobody_is_taken_for_dead_while_nothing_can_be_written(open_house, small_disk_store):
    """A full disk keeps every worker from being heard: no lease is taken away, and no batch becomes a suspect."""
    house = open_house(small_disk_store, pause_ms=30)
    mine = house.submit(house.pictures.folder(100))
    house.wait_for_outcomes(20)
    small_disk_store.disk.fill()
    time.sleep(2 * house.settings.lease_s)
    small_disk_store.disk.free()
    assert_nothing_lost_nothing_twice(house)
    assert not any(batch.expirations for batch in batches_of(house.database, mine))


def test_a_full_disk_is_waited_for(open_house, small_disk_store):
    """Not one byte can be written, twice: what was computed is kept or computed again, and no image is blamed."""
    house = open_house(small_disk_store, workers=1)
    house.submit(house.pictures.folder(300))
    for fillings in range(2):
        house.wait_for_outcomes(80 * fillings + 20)
        faults.fill_disk(house, Random(fillings))
    assert any(worker.is_logged("retry") or worker.is_logged("database_away") for worker in house.workers)
    assert_nothing_lost_nothing_twice(house)
