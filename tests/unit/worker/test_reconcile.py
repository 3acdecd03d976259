"""Whatever was lost between database, broker and dead workers is found and started again, once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from core.errors import Reason
from core.queue import BrokerAway
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, utc_now
from tests.assets.rows import (
    LONG_AGO,
    add_batch,
    add_submission,
    assert_counters_are_exact,
    batches_of,
    items_of,
    submission_of,
)
from worker.reconcile import reconcile


@pytest.fixture
def mine(context):
    with context.database.write() as session:
        return add_submission(session)


def add(context, submission_id, paths, settled=(), **values) -> int:
    with context.database.write() as session:
        return add_batch(session, submission_id, paths, settled, **values)


def test_an_unsent_batch_is_sent_in_its_lane(context, sent):
    """The worker died, or the broker was away, between commit and sending."""
    with context.database.write() as session:
        mine = add_submission(session, lane="urgent")
    batch_id = add(context, mine, ["a"], sent_at=None, lane="urgent")
    reconcile(context)
    assert sent("urgent") == [batch_id]
    assert batches_of(context.database, mine)[0].sent_at is not None
    reconcile(context)
    assert sent("urgent") == [batch_id]


def test_a_message_that_the_broker_forgot_is_sent_again(context, mine, sent):
    """Sent long ago, still queued, and its lane is empty: the broker lost it."""
    batch_id = add(context, mine, ["a"])
    reconcile(context)
    assert sent("bulk") == [batch_id]


def test_a_message_that_still_waits_is_not_sent_twice(context, mine, sent):
    """While the broker holds as many messages as were sent, a queued batch is only waiting for a worker."""
    first = add(context, mine, ["a"])
    reconcile(context)
    with context.database.write() as session:
        session.get_one(Batch, first).sent_at = utc_now() - timedelta(hours=1)
    second = add(context, mine, ["b"], sent_at=None)
    reconcile(context)
    assert sent("bulk") == [first, second]


def test_messages_are_missed_while_others_wait(context, mine, sent, redis_url):
    """One of three got lost: all three are sent again, and the two that come twice find nothing to do."""
    from redis import Redis

    ids = [add(context, mine, [name], sent_at=None) for name in "abc"]
    reconcile(context)
    with context.database.write() as session:
        for batch_id in ids:
            session.get_one(Batch, batch_id).sent_at = utc_now() - timedelta(hours=1)
    Redis.from_url(redis_url).rpop("bulk")
    reconcile(context)
    assert sorted(sent("bulk")) == sorted([*ids, *ids[1:]])


def test_a_message_sent_this_moment_is_not_missed_yet(context, mine, sent):
    """A worker may have taken it and be about to claim the batch."""
    add(context, mine, ["a"], sent_at=utc_now())
    reconcile(context)
    assert sent("bulk") == []


@pytest.mark.parametrize(
    ("age", "retry_in", "is_sent"),
    [
        (LONG_AGO, None, True),
        (timedelta(), None, False),
        (LONG_AGO, timedelta(seconds=-1), True),
        (LONG_AGO, timedelta(minutes=5), False),
        (timedelta(hours=-1), None, True),
        (LONG_AGO, timedelta(hours=1), True),
    ],
    ids=[
        "never-begun",
        "just-accepted",
        "room-may-be-there",
        "waits-for-room",
        "accepted-by-a-clock-ahead",
        "put-off-by-a-clock-ahead",
    ],
)
def test_a_listing_that_nobody_does_is_sent_again(context, sent, age, retry_in, is_sent):
    """Accepted and forgotten, put off until now, or begun by a worker that died and was taken its lease.

    Times of a clock that is an hour ahead of ours keep nobody waiting for that hour.
    """
    now = utc_now()
    retry_at = None if retry_in is None else now + retry_in
    with context.database.write() as session:
        stalled = add_submission(session, state=SubmissionState.ACCEPTED, created_at=now - age, retry_at=retry_at)
        add_submission(session, state=SubmissionState.LISTING, created_at=now - LONG_AGO)
    reconcile(context)
    assert sent("control") == ([stalled] if is_sent else [])


def test_a_parked_submission_is_tried_again_when_its_time_has_come(context, sent):
    """Its waiting batches go out again; one whose time has not come keeps waiting."""
    with context.database.write() as session:
        due, later = (
            add_submission(session, state=SubmissionState.PARKED, parked_at=utc_now(), listed_at=utc_now(), retry_at=at)
            for at in (utc_now() - timedelta(seconds=1), utc_now() + LONG_AGO)
        )
        ready = add_batch(session, due, ["a"], sent_at=None)
        add_batch(session, later, ["b"], sent_at=None)
    reconcile(context)
    assert submission_of(context.database, due).state == SubmissionState.RUNNING
    assert submission_of(context.database, later).state == SubmissionState.PARKED
    assert sent("bulk") == [ready]


def test_storage_that_stays_away_is_given_up(context):
    """After days its images fail, and the submission ends: nothing waits for ever."""
    with context.database.write() as session:
        mine = add_submission(
            session,
            state=SubmissionState.PARKED,
            listed_at=utc_now(),
            parked_at=utc_now() - timedelta(days=30),
            retry_at=utc_now() - timedelta(seconds=1),
        )
        add_batch(session, mine, ["a", "b"], [ItemState.SKIPPED])
    reconcile(context)
    assert submission_of(context.database, mine).state == SubmissionState.DONE
    items = items_of(context.database, mine)
    assert (items["a"].state, items["a"].reason) == (ItemState.FAILED, Reason.STORAGE_AWAY)
    assert_counters_are_exact(context.database, mine)


def test_a_complete_submission_is_finished(context, mine):
    """The last worker died after closing its batch and before it could say so."""
    add(context, mine, [], [ItemState.SKIPPED], state=BatchState.DONE)
    reconcile(context)
    assert submission_of(context.database, mine).state == SubmissionState.DONE


def test_a_broker_that_is_away_keeps_what_needs_none_from_nothing(context, mine):
    """Complete submissions are finished; sending waits for the broker's return."""

    class AwayQueue:
        """A broker that cannot be reached."""

        def depths(self):
            raise BrokerAway("away")

    add(context, mine, [], [ItemState.SKIPPED], state=BatchState.DONE)
    reconcile(replace(context, queue=AwayQueue()))
    assert submission_of(context.database, mine).state == SubmissionState.DONE


def test_two_reconcilers_at_once_send_each_batch_once(context, mine, sent):
    """Two beats, or a beat too many, change nothing."""
    from threading import Barrier, Thread

    ids = [add(context, mine, [name], sent_at=None) for name in "abc"]
    start = Barrier(4)

    def run() -> None:
        start.wait()
        reconcile(context)

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sent("bulk") == ids
