"""Wall clocks that jump, on one machine or on all."""

import time

import pytest
from sqlmodel import select

from core.states import SubmissionState
from core.tables import Batch, utc_now
from tests.assets.programs import wait_until
from tests.assets.rows import add_submission
from tests.faults.clock import SEEN_S
from tests.faults.house import House
from tests.faults.invariants import assert_nothing_lost_nothing_twice

_HOUR_S = 3600


def finished_in(house: House, direction: int) -> bool:
    """Whether a batch was finished half an hour or more after now (+1), or before (-1)."""
    ends = house.ask(lambda session: session.exec(select(Batch.finished_at)).all())
    return any(direction * (end - utc_now()).total_seconds() > _HOUR_S / 2 for end in ends if end)


def test_clocks_that_jump_take_no_batch_from_anybody(open_house, sqlite_store, clock_library):
    """One an hour ahead, then all an hour back: leases are counted in heartbeats, so no work is lost or done twice."""
    house = open_house(sqlite_store, clock_library=clock_library, pause_ms=30)
    for whose, direction in (("worker-0", +1), ("", -1)):
        house.submit(house.pictures.folder(200))
        for name, clock in house.clocks.items():
            if name.startswith(whose):
                clock.jump(direction * _HOUR_S)
        wait_until(lambda direction=direction: finished_in(house, direction), "a batch is finished in another hour")
    account = assert_nothing_lost_nothing_twice(house)
    assert account.computed_again == 0


# Without a jump, what nobody was told of is found within 5 s and one run of reconcile.
_FOUND_S = 10


@pytest.mark.parametrize(("whose", "direction"), [("beat", -1), ("worker", -1), ("worker", +1)])
def test_clocks_that_differ_keep_nobody_from_finding_what_was_lost(
    open_house, sqlite_store, clock_library, whose, direction
):
    """A submission whose message was lost is listed soon, whatever beat's clock and the workers' show."""
    house = open_house(sqlite_store, clock_library=clock_library, workers=1)
    house.submit(house.pictures.folder(20))
    house.settle()
    for name, clock in house.clocks.items():
        if name.startswith(whose):
            clock.jump(direction * _HOUR_S)
    # Until every process has read its clock's file again.
    time.sleep(SEEN_S)
    folder = house.pictures.folder(20)
    with house.database.write() as session:
        house.submitted[add_submission(session, folder.path, state=SubmissionState.ACCEPTED)] = folder
    assert_nothing_lost_nothing_twice(house, settle_s=_FOUND_S)
