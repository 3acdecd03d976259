"""Cancelling and finishing a submission, on both databases."""

import pytest

from core.errors import Reason
from core.states import BatchState, ItemState, SubmissionState
from core.transitions import cancel_submission, finish_submission
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of


def test_cancelling_skips_what_no_worker_has_in_hand(database):
    """Queued images are skipped with a reason; batches in work keep theirs; counters stay exact."""
    with database.write() as session:
        mine = add_submission(session)
        add_batch(session, mine, ["a", "b"], [ItemState.FAILED, ItemState.SKIPPED])
        add_batch(session, mine, ["c"], state=BatchState.RUNNING, lease_token="t")
        other = add_submission(session)
        add_batch(session, other, ["d"])
    with database.write() as session:
        assert cancel_submission(session, mine)
    assert submission_of(database, mine).state == SubmissionState.CANCELLED
    assert submission_of(database, mine).finished_at is not None
    assert [batch.state for batch in batches_of(database, mine)] == [BatchState.CANCELLED, BatchState.RUNNING]
    items = items_of(database, mine)
    assert (items["a"].state, items["a"].reason) == (ItemState.SKIPPED, Reason.CANCELLED)
    assert items["c"].state == ItemState.PENDING
    assert items_of(database, other)["d"].state == ItemState.PENDING
    assert_counters_are_exact(database, mine)


@pytest.mark.parametrize("state", [SubmissionState.DONE, SubmissionState.CANCELLED, SubmissionState.FAILED])
def test_what_has_ended_cannot_be_cancelled(database, state):
    """A second cancel, or one that comes too late, changes nothing and says so."""
    with database.write() as session:
        mine = add_submission(session, state=state)
    with database.write() as session:
        assert not cancel_submission(session, mine)
        assert not cancel_submission(session, "missing")
    assert submission_of(database, mine).state == state


@pytest.mark.parametrize("state", [SubmissionState.ACCEPTED, SubmissionState.LISTING, SubmissionState.RUNNING])
def test_what_is_open_can_be_cancelled(database, state):
    """Also before and while its folder is listed; the lister's lease is taken away."""
    with database.write() as session:
        mine = add_submission(session, state=state, lease_token="t")
    with database.write() as session:
        assert cancel_submission(session, mine)
    assert submission_of(database, mine).lease_token is None


@pytest.mark.parametrize(
    ("states", "finishes"),
    [
        ([BatchState.DONE, BatchState.DONE], True),
        ([BatchState.DONE, BatchState.SPLIT, BatchState.CANCELLED], True),
        ([BatchState.DONE, BatchState.QUEUED], False),
        ([BatchState.DONE, BatchState.RUNNING], False),
    ],
)
def test_a_submission_is_done_when_no_batch_is_open(database, states, finishes):
    """Only closed batches left: done, with the time. Asking again changes nothing."""
    with database.write() as session:
        mine = add_submission(session)
        for number, state in enumerate(states):
            add_batch(session, mine, [str(number)], state=state)
    with database.write() as session:
        assert finish_submission(session, mine) is finishes
    ended = submission_of(database, mine)
    assert (ended.state == SubmissionState.DONE) is finishes
    assert (ended.finished_at is not None) is finishes
    with database.write() as session:
        assert not finish_submission(session, mine)


@pytest.mark.parametrize("state", [SubmissionState.ACCEPTED, SubmissionState.LISTING, SubmissionState.CANCELLED])
def test_a_submission_that_is_not_wholly_listed_is_not_done(database, state):
    """While more images may come, or after a cancel, done would be a lie."""
    with database.write() as session:
        mine = add_submission(session, state=state)
        add_batch(session, mine, ["a"], state=BatchState.DONE)
    with database.write() as session:
        assert not finish_submission(session, mine)
    assert submission_of(database, mine).state == state
