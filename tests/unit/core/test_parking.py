"""A submission whose storage is away is put aside, tried again ever more seldom, and given up in the end."""

from datetime import timedelta

import pytest

from core.database import Database
from core.errors import Reason
from core.states import LIVE_SUBMISSIONS, BatchState, ItemState, SubmissionState
from core.tables import Submission, utc_now
from core.transitions import (
    abandon_parked_submission,
    cancel_submission,
    finish_submission,
    park_submission,
    unpark_submission,
)
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of

WHY = "the storage does not answer"
SETTLED = (ItemState.FAILED, ItemState.SKIPPED, ItemState.SKIPPED)


def add(database: Database, **values: object) -> str:
    with database.write() as session:
        return add_submission(session, **values)


def park(database: Database, mine: str, wait_s: float = 20.0) -> bool:
    with database.write() as session:
        return park_submission(session, mine, WHY, wait_s)


def unpark(database: Database, mine: str) -> bool:
    with database.write() as session:
        return unpark_submission(session, mine)


def abandon(database: Database, mine: str) -> bool:
    with database.write() as session:
        return abandon_parked_submission(session, mine)


def finish(database: Database, mine: str) -> bool:
    with database.write() as session:
        return finish_submission(session, mine)


def parked_for(database: Database, mine: str) -> float:
    """Park a submission; seconds until it is tried again."""
    before = utc_now()
    assert park(database, mine)
    retry_at = submission_of(database, mine).retry_at
    # The time that the parking itself took is at most the difference of the two.
    return (retry_at - before).total_seconds()


@pytest.mark.parametrize("state", LIVE_SUBMISSIONS)
def test_a_live_submission_can_be_parked(database, state):
    """With the reason, since when, and until when; whoever lists it loses the lease."""
    mine, other = add(database, state=state, lease_token="t"), add(database)
    before = utc_now()
    assert park(database, mine)
    parked = submission_of(database, mine)
    assert (parked.state, parked.reason, parked.detail) == (SubmissionState.PARKED, Reason.STORAGE_AWAY, WHY)
    assert (parked.tries, parked.lease_token, parked.finished_at) == (1, None, None)
    assert before <= parked.parked_at <= utc_now() < parked.retry_at
    assert submission_of(database, other).state == SubmissionState.RUNNING


def test_its_batches_wait_as_they_are(database):
    """Nothing of them is lost, and nothing is decided yet."""
    mine = add(database, listed_at=utc_now())
    with database.write() as session:
        add_batch(session, mine, ["a"], SETTLED)
    assert park(database, mine)
    assert batches_of(database, mine)[0].state == BatchState.QUEUED
    assert items_of(database, mine)["a"].state == ItemState.PENDING


@pytest.mark.parametrize("state", [SubmissionState.DONE, SubmissionState.CANCELLED, SubmissionState.FAILED])
def test_what_has_ended_is_not_parked(database, state):
    """A worker that comes late with bad news changes nothing; nor does one that knows no such submission."""
    mine = add(database, state=state)
    assert not park(database, mine)
    assert not park(database, "missing")
    ended = submission_of(database, mine)
    assert (ended.state, ended.reason, ended.parked_at, ended.retry_at, ended.tries) == (state, None, None, None, 0)


def test_who_is_parked_twice_waits_once(database):
    """Two batches of it notice the same outage: one try, one wait."""
    mine = add(database)
    assert park(database, mine)
    first = submission_of(database, mine)
    assert not park(database, mine)
    second = submission_of(database, mine)
    assert (second.tries, second.parked_at, second.retry_at) == (1, first.parked_at, first.retry_at)


def test_waits_double_up_to_ten_minutes(database):
    """20, 40, 80 seconds and so on, give or take a fifth; after weeks they are no longer, and no error."""
    mine = add(database, listed_at=utc_now())
    for tries in range(8):
        longest = min(20 * 2**tries, 600) * 1.2
        assert longest / 1.5 <= parked_for(database, mine) <= longest + 5
        assert submission_of(database, mine).tries == tries + 1
        assert unpark(database, mine)
    with database.write() as session:
        session.get_one(Submission, mine).tries = 5000
    assert 480 <= parked_for(database, mine) <= 725


def test_what_was_parked_at_once_is_not_tried_at_once(database):
    """Forty submissions of one storage: their tries spread over the fifths around the wait."""
    waits = [parked_for(database, add(database)) for _ in range(40)]
    assert max(waits) - min(waits) > 2
    assert all(16 <= wait <= 29 for wait in waits)


def test_since_when_its_storage_is_away_is_remembered_over_tries(database):
    """So that it is given up by the whole time, and not by that of the last try."""
    mine = add(database, listed_at=utc_now())
    long_ago = utc_now() - timedelta(days=2)
    assert park(database, mine)
    with database.write() as session:
        session.get_one(Submission, mine).parked_at = long_ago
    for _ in range(2):
        assert unpark(database, mine)
        assert submission_of(database, mine).parked_at == long_ago
        assert park(database, mine)
        assert submission_of(database, mine).parked_at == long_ago


@pytest.mark.parametrize(("is_listed", "state"), [(True, SubmissionState.RUNNING), (False, SubmissionState.ACCEPTED)])
def test_a_new_try_goes_on_where_it_was(database, is_listed, state):
    """With its batches where all are known, else with its listing; nothing tells of the outage, but the count."""
    mine = add(database, state=SubmissionState.LISTING, listed_at=utc_now() if is_listed else None)
    other = add(database)
    assert park(database, mine)
    assert park(database, other)
    assert unpark(database, mine)
    tried = submission_of(database, mine)
    assert (tried.state, tried.reason, tried.detail, tried.retry_at) == (state, None, None, None)
    assert tried.tries == 1
    assert submission_of(database, other).state == SubmissionState.PARKED


@pytest.mark.parametrize("state", [state for state in SubmissionState if state != SubmissionState.PARKED])
def test_only_what_is_parked_is_tried_again_or_given_up(database, state):
    """Whoever comes second changes nothing and learns it."""
    mine = add(database, state=state, reason="folder_missing", listed_at=utc_now())
    with database.write() as session:
        add_batch(session, mine, ["a"])
    for come_late in (unpark, abandon):
        assert not come_late(database, mine)
        assert not come_late(database, "missing")
    left = submission_of(database, mine)
    assert (left.state, left.reason) == (state, "folder_missing")
    assert batches_of(database, mine)[0].state == BatchState.QUEUED


def test_giving_up_fails_the_images_that_need_the_storage(database):
    """With a reason; outcomes that are there stay, batches in work keep theirs, and all counts are exact."""
    mine, other = add(database, listed_at=utc_now()), add(database)
    with database.write() as session:
        add_batch(session, mine, ["a", "b"], SETTLED)
        add_batch(session, mine, ["c"], state=BatchState.RUNNING, lease_token="t")
        add_batch(session, mine, [], SETTLED, state=BatchState.DONE)
        add_batch(session, other, ["d"])
    assert park(database, mine)
    assert abandon(database, mine)
    items = items_of(database, mine)
    assert {(items[path].state, items[path].reason) for path in "ab"} == {(ItemState.FAILED, Reason.STORAGE_AWAY)}
    assert "submit the folder again" in items["a"].detail
    assert items["c"].state == ItemState.PENDING
    assert items_of(database, other)["d"].state == ItemState.PENDING
    waited, running, done = batches_of(database, mine)
    assert (waited.state, waited.failed, waited.skipped) == (BatchState.DONE, 3, 2)
    assert waited.finished_at is not None
    assert (running.state, done.failed) == (BatchState.RUNNING, 1)
    assert_counters_are_exact(database, mine)


def test_a_listed_submission_that_was_given_up_finishes(database):
    """It is done like any other whose images all have an outcome, and says what went wrong."""
    mine = add(database, listed_at=utc_now())
    with database.write() as session:
        add_batch(session, mine, ["a"])
    assert park(database, mine)
    assert abandon(database, mine)
    given_up = submission_of(database, mine)
    assert (given_up.state, given_up.reason, given_up.retry_at) == (SubmissionState.RUNNING, Reason.STORAGE_AWAY, None)
    assert finish(database, mine)
    done = submission_of(database, mine)
    assert (done.state, done.reason) == (SubmissionState.DONE, Reason.STORAGE_AWAY)
    assert done.finished_at is not None


def test_a_submission_that_was_given_up_waits_for_batches_in_work(database):
    """A worker that still has one may yet bring results."""
    mine = add(database, listed_at=utc_now())
    with database.write() as session:
        add_batch(session, mine, ["a"], state=BatchState.RUNNING, lease_token="t")
    assert park(database, mine)
    assert abandon(database, mine)
    assert not finish(database, mine)
    assert submission_of(database, mine).state == SubmissionState.RUNNING


def test_a_submission_that_was_never_wholly_listed_fails(database):
    """Nobody knows which images it holds: done would be a lie. What was found so far fails with it."""
    mine = add(database, state=SubmissionState.LISTING)
    with database.write() as session:
        add_batch(session, mine, ["a"], SETTLED)
    assert park(database, mine)
    assert abandon(database, mine)
    failed = submission_of(database, mine)
    assert (failed.state, failed.reason) == (SubmissionState.FAILED, Reason.STORAGE_AWAY)
    assert failed.finished_at is not None
    assert items_of(database, mine)["a"].reason == Reason.STORAGE_AWAY
    assert not finish(database, mine)
    assert_counters_are_exact(database, mine)


def test_a_parked_submission_can_be_cancelled(database):
    """Nobody waits for its storage any more, and nothing tells of a fault that nobody minds now."""
    mine = add(database, listed_at=utc_now())
    with database.write() as session:
        add_batch(session, mine, ["a"], SETTLED)
    assert park(database, mine)
    with database.write() as session:
        assert cancel_submission(session, mine)
    cancelled = submission_of(database, mine)
    assert (cancelled.state, cancelled.retry_at) == (SubmissionState.CANCELLED, None)
    assert (cancelled.reason, cancelled.detail) == (None, None)
    assert items_of(database, mine)["a"].reason == Reason.CANCELLED
    assert not unpark(database, mine)
    assert_counters_are_exact(database, mine)
