"""An API that dies while it is asked."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

from sqlmodel import func, select

from core.tables import Submission
from tests.assets.programs import wait_until
from tests.faults import faults
from tests.faults.invariants import assert_nothing_lost_nothing_twice

_SUBMISSIONS = 24


def test_an_api_that_is_killed_records_each_submission_once(open_house, sqlite_store):
    """Clients repeat a request with its key until there is an answer: one submission a key, and all are worked off."""
    house = open_house(sqlite_store, api=True)
    folders = [house.pictures.folder(4) for _ in range(_SUBMISSIONS)]

    def recorded() -> int:
        return house.ask(lambda session: session.exec(select(func.count()).select_from(Submission)).one())

    with ThreadPoolExecutor(4) as clients:
        answers = [clients.submit(house.submit, folder) for folder in folders]
        for kills in range(2):
            wait_until(lambda kills=kills: recorded() > 10 * kills, "submissions come in again")
            faults.kill_api(house, Random(kills))
    ids = [answer.result() for answer in answers]
    assert len(set(ids)) == recorded() == _SUBMISSIONS
    assert house.client.repeats > 0
    assert_nothing_lost_nothing_twice(house)
