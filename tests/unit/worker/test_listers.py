"""Folders are listed beside each other, lane by lane, each by one thread at a time."""

import threading
from collections.abc import Callable, Iterator

import pytest

from core.lanes import Lane
from core.tables import new_id
from tests.assets.programs import wait_until
from worker.listers import Listers


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """Ends the listings that are stuck, at the latest with the test."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def listers(release) -> Iterator[Listers]:
    opened = Listers()
    yield opened
    release.set()
    opened.close()


class Listing:
    """A listing that lasts until it is released."""

    def __init__(self, release: threading.Event) -> None:
        self._release = release
        self.begun = threading.Event()
        self.ended = threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self._release.wait(60)
        self.ended.set()


def begin(listers: Listers, lane: Lane, work: Callable[[], None]) -> bool:
    return listers.begin(lane, new_id(), work)


def get_stuck(listers: Listers, lane: Lane, release: threading.Event) -> list[Listing]:
    """Have all threads of a lane wait for storage that does not answer."""
    stuck = [Listing(release) for _ in range(2)]
    for listing in stuck:
        assert begin(listers, lane, listing)
    assert all(listing.begun.wait(30) for listing in stuck)
    return stuck


def takes_more(listers: Listers, lane: Lane) -> bool:
    try:
        return begin(listers, lane, lambda: None)
    except RuntimeError:
        return False


@pytest.mark.parametrize("lane", [Lane.URGENT, Lane.NIGHTLY])
def test_a_lane_is_not_held_up_by_stuck_listings_of_another(listers, release, lane):
    """Two bulk folders wait for storage that does not answer: an urgent one is listed meanwhile."""
    stuck = get_stuck(listers, Lane.BULK, release)
    listed = threading.Event()
    assert begin(listers, lane, listed.set)
    assert listed.wait(30)
    assert not any(listing.ended.is_set() for listing in stuck)


def test_a_lane_lists_two_folders_at_once_and_no_more(listers):
    """Storage has its own queue: six folders go through two by two."""
    lock = threading.Lock()
    pair = threading.Barrier(2)
    now: list[int] = []
    at_once: list[int] = []

    def work(number: int) -> None:
        with lock:
            now.append(number)
            at_once.append(len(now))
        pair.wait(30)
        with lock:
            now.remove(number)
        pair.wait(30)

    for number in range(6):
        begin(listers, Lane.BULK, lambda number=number: work(number))
    wait_until(lambda: len(at_once) == 6 and not now, "all are listed", 30)
    assert max(at_once) == 2


def test_a_listing_waits_for_a_free_thread(listers, release):
    """It is not lost because others are before it."""
    get_stuck(listers, Lane.BULK, release)
    listed = threading.Event()
    assert begin(listers, Lane.BULK, listed.set)
    release.set()
    assert listed.wait(30)


def test_a_submission_is_not_begun_twice(listers, release):
    """Messages that come again find it in hand, in work or waiting for a thread, whatever lane they name."""
    working = Listing(release)
    assert listers.begin(Lane.BULK, "mine", working)
    assert working.begun.wait(30)
    get_in_line = get_stuck_beside(listers, release)
    assert not listers.begin(Lane.BULK, "mine", pytest.fail)
    assert not listers.begin(Lane.URGENT, "mine", pytest.fail)
    assert listers.begin(Lane.BULK, "waits", get_in_line)
    assert not listers.begin(Lane.BULK, "waits", pytest.fail)
    release.set()
    assert get_in_line.ended.wait(30)


def get_stuck_beside(listers: Listers, release: threading.Event) -> Listing:
    """Have the lane's other thread wait, too; a listing that has to wait for it."""
    other = Listing(release)
    assert begin(listers, Lane.BULK, other)
    assert other.begun.wait(30)
    return Listing(release)


def fail() -> None:
    raise RuntimeError("the listing fails")


@pytest.mark.parametrize("work", [lambda: None, fail], ids=["ended", "failed"])
def test_a_submission_that_is_no_longer_in_hand_can_be_begun_again(listers, work):
    """It was put off, or failed: the next message lists it."""
    assert listers.begin(Lane.BULK, "mine", work)
    again = threading.Event()
    wait_until(lambda: listers.begin(Lane.BULK, "mine", again.set), "the submission is free again", 30)
    assert again.wait(30)


def test_closing_waits_for_the_listings_in_hand(release):
    """They are handed on in order, and not cut off."""
    listers = Listers()
    stuck = get_stuck(listers, Lane.NIGHTLY, release)
    closing = threading.Thread(target=listers.close, daemon=True)
    closing.start()
    wait_until(lambda: not takes_more(listers, Lane.NIGHTLY), "closing has begun", 30)
    assert closing.is_alive()
    release.set()
    closing.join(30)
    assert not closing.is_alive()
    assert all(listing.ended.is_set() for listing in stuck)


def test_closing_drops_what_has_not_begun(release):
    """Another worker lists it."""
    listers = Listers()
    get_stuck(listers, Lane.BULK, release)
    waiting = Listing(release)
    begin(listers, Lane.BULK, waiting)
    closing = threading.Thread(target=listers.close, daemon=True)
    closing.start()
    wait_until(lambda: not takes_more(listers, Lane.BULK), "closing has begun", 30)
    release.set()
    closing.join(30)
    assert not closing.is_alive()
    assert not waiting.begun.is_set()


def test_closing_drops_what_has_not_begun_in_every_lane_at_once(release):
    """An urgent listing that takes long to end gives no bulk listing the time to begin."""
    listers = Listers()
    urgent = Listing(release)
    begin(listers, Lane.URGENT, urgent)
    assert urgent.begun.wait(30)
    bulk_ends = threading.Event()
    get_stuck(listers, Lane.BULK, bulk_ends)
    waiting = Listing(release)
    begin(listers, Lane.BULK, waiting)
    closing = threading.Thread(target=listers.close, daemon=True)
    closing.start()
    try:
        wait_until(lambda: not takes_more(listers, Lane.NIGHTLY), "every lane is closed", 5)
        bulk_ends.set()
    finally:
        bulk_ends.set()
        release.set()
        closing.join(30)
    assert not waiting.begun.is_set()
