"""A broker that dies, forgets, restarts, is cut off or repeats itself."""

from random import Random

from core.states import BatchState
from tests.assets.rows import batches_of
from tests.faults import faults
from tests.faults.invariants import assert_nothing_lost_nothing_twice


def test_a_broker_that_restarts_with_its_data_costs_nothing(open_house, sqlite_store):
    """Valkey is killed twice and comes back with what it had: workers wait for it and go on."""
    house = open_house(sqlite_store)
    house.submit(house.pictures.folder(300))
    for restarts in range(2):
        house.wait_for_outcomes(80 * restarts + 20)
        faults.restart_broker(house, Random(restarts))
    assert_nothing_lost_nothing_twice(house)


def test_a_broker_that_forgets_everything_is_filled_again(open_house, sqlite_store):
    """Wiped, then killed to come back with nothing, under two beats: batches are sent again, and none is done twice."""
    house = open_house(sqlite_store, beats=2, pause_ms=15)
    mine = house.submit(house.pictures.folder(300))
    house.wait_for_outcomes(20)
    faults.wipe_broker(house, Random(0))
    faults.replace_broker(house, Random(0))
    assert house.open_submissions(), "the broker forgot too late to matter"
    account = assert_nothing_lost_nothing_twice(house)
    assert account.computed_again == 0
    assert {batch.attempts for batch in batches_of(house.database, mine)} == {1}


def test_two_beats_at_once_do_nothing_twice(open_house, postgres_store):
    """Two beats ask for reconciliation every second, of workers that may do so at once: a batch is claimed once."""
    house = open_house(postgres_store, beats=2, pause_ms=15)
    mine = house.submit(house.pictures.folder(200))
    account = assert_nothing_lost_nothing_twice(house)
    assert account.computed_again == 0
    assert {batch.attempts for batch in batches_of(house.database, mine)} == {1}


def test_connections_to_the_broker_that_break_in_the_middle_of_tasks_cost_nothing(open_house, sqlite_store):
    """Every connection is reset, four times while tasks run, and once nothing comes through for seconds."""
    house = open_house(sqlite_store, pause_ms=15)
    house.submit(house.pictures.folder(400))
    for cuts in range(4):
        house.wait_for_outcomes(60 * cuts + 20)
        faults.cut_broker(house, Random(cuts))
    faults.hold_broker(house, Random(0))
    assert_nothing_lost_nothing_twice(house)


def test_messages_that_come_three_times_are_worked_on_once(open_house, sqlite_store):
    """Ids of submissions and batches, sent again by hand while they run and when they are done, change nothing."""
    house = open_house(sqlite_store, workers=1)
    first = house.submit(house.pictures.folder(200))
    for repeats in range(4):
        house.wait_for_outcomes(40 * repeats + 20)
        faults.repeat_messages(house, Random(0))
    house.settle()
    faults.repeat_messages(house, Random(0))
    house.submit(house.pictures.folder(40))
    account = assert_nothing_lost_nothing_twice(house)
    assert account.computed_again == 0
    batches = batches_of(house.database, first)
    assert [(batch.state, batch.attempts) for batch in batches] == [(BatchState.DONE, 1)] * len(batches)
