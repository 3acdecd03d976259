"""Whatever was lost between database, broker and dead workers is found and started again, once."""

from dataclasses import replace
from datetime import timedelta

import pytest

from core.errors import Reason
from core.queue import BrokerAway
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, Submission, utc_now
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of
from worker.batches import claim_batch
from worker.reconcile import reconcile


@pytest.fixture
def mine(context):
    with context.database.write() as session:
        return add_submission(session)


def add(context, submission_id, paths, settled=(), **values) -> int:
    with context.database.write() as session:
        return add_batch(session, submission_id, paths, settled, **values)


def die(context, batch_id) -> None:
    """A worker claims the batch and is never heard of again."""
    assert claim_batch(context.database, batch_id, "dead", 60) is not None
    with context.database.write() as session:
        session.get_one(Batch, batch_id).lease_expires_at = utc_now() - timedelta(seconds=1)


def test_a_batch_whose_lease_ran_out_is_sent_again(context, mine, sent):
    """One death costs nothing: the same batch, with the expiry counted."""
    batch_id = add(context, mine, ["a", "b"])
    die(context, batch_id)
    reconcile(context)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.expirations, batch.lease_token) == (BatchState.QUEUED, 1, 1, None)
    assert batch.sent_at is not None
    assert sent("bulk") == [batch_id]


def test_a_live_lease_is_left_alone(context, mine, sent):
    """A slow worker is no dead one."""
    batch_id = add(context, mine, ["a"])
    claim_batch(context.database, batch_id, "alive", 60)
    reconcile(context)
    assert batches_of(context.database, mine)[0].state == BatchState.RUNNING
    assert sent("bulk") == []


def test_a_batch_that_kills_is_split_until_the_killer_stands_alone(context, mine, sent):
    """Eight images, one of which kills every worker: seven are classified, one is recorded, all counted exactly."""
    add(context, mine, [*"abcdefg", "killer"], [ItemState.SKIPPED, ItemState.FAILED, ItemState.SKIPPED])
    for _ in range(30):
        open_batches = [batch for batch in batches_of(context.database, mine) if batch.state == BatchState.QUEUED]
        if not open_batches:
            break
        items = items_of(context.database, mine)
        for batch in open_batches:
            if items["killer"].batch_id == batch.id:
                die(context, batch.id)
            else:
                _close_all_benign(context, batch.id)
        reconcile(context)
        assert_counters_are_exact(context.database, mine)
    items = items_of(context.database, mine)
    assert len(items) == 11
    assert (items["killer"].state, items["killer"].reason) == (ItemState.FAILED, Reason.KILLS_WORKER)
    assert {items[name].state for name in "abcdefg"} == {ItemState.DONE}
    assert submission_of(context.database, mine).state == SubmissionState.DONE
    # Two deaths of the whole, then one a split: 8 -> 4 -> 2 -> 1.
    assert sum(batch.expirations for batch in batches_of(context.database, mine)) <= 6


def _close_all_benign(context, batch_id) -> None:
    from worker.batches import Outcome, close_batch
    from worker.pipeline import Classified, Timings

    claim = claim_batch(context.database, batch_id, "w", 60)
    outcomes = [
        Classified(item_id=item.id, content_hash=item.path[0] * 64, probability=0.1, elapsed_ms=1.0)
        for item in claim.items
    ]
    done = Outcome(images=outcomes, timings=Timings(), engine="fake", model_version="fake@0.0.0")
    close_batch(context.database, claim, done, context.rule)


def test_a_batch_is_not_split_at_the_first_death(context, mine):
    """A machine that lost power says nothing about the images."""
    batch_id = add(context, mine, ["a", "b"])
    die(context, batch_id)
    reconcile(context)
    assert len(batches_of(context.database, mine)) == 1
    die(context, batch_id)
    reconcile(context)
    assert [batch.images for batch in batches_of(context.database, mine)] == [0, 1, 1]
    assert batches_of(context.database, mine)[0].state == BatchState.SPLIT


def test_a_killed_batch_of_a_cancelled_submission_is_skipped(context, mine, sent):
    """Nobody waits for it any more."""
    batch_id = add(context, mine, ["a", "b"])
    die(context, batch_id)
    with context.database.write() as session:
        session.get_one(Submission, mine).state = SubmissionState.CANCELLED
    reconcile(context)
    assert {item.reason for item in items_of(context.database, mine).values()} == {Reason.CANCELLED}
    assert sent("bulk") == []
    assert_counters_are_exact(context.database, mine)


def test_an_unsent_batch_is_sent_in_its_lane(context, mine, sent):
    """The worker died, or the broker was away, between commit and sending."""
    batch_id = add(context, mine, ["a"], sent_at=None, lane="urgent")
    reconcile(context)
    assert sent("urgent") == [batch_id]
    assert batches_of(context.database, mine)[0].sent_at is not None
    reconcile(context)
    assert sent("urgent") == [batch_id]


def test_a_batch_committed_this_moment_is_left_to_its_sender(context, mine, sent):
    """Whoever committed it is about to send it."""
    add(context, mine, ["a"], sent_at=None, created_at=utc_now())
    reconcile(context)
    assert sent("bulk") == []


def test_a_message_that_the_broker_forgot_is_sent_again(context, mine, sent):
    """Sent long ago, still queued, and its lane is empty: the broker lost it."""
    batch_id = add(context, mine, ["a"])
    reconcile(context)
    assert sent("bulk") == [batch_id]


def test_a_message_that_still_waits_is_not_sent_twice(context, mine, sent):
    """While the lane holds messages, a queued batch is only waiting for its turn."""
    batch_id = add(context, mine, ["a"])
    reconcile(context)
    add(context, mine, ["b"])
    reconcile(context)
    assert sent("bulk") == [batch_id]


def test_a_message_sent_this_moment_is_not_missed_yet(context, mine, sent):
    """A worker may have taken it and be about to claim the batch."""
    add(context, mine, ["a"], sent_at=utc_now())
    reconcile(context)
    assert sent("bulk") == []


@pytest.mark.parametrize(
    ("values", "is_sent"),
    [
        ({"state": SubmissionState.ACCEPTED, "created_at": utc_now() - timedelta(minutes=1)}, True),
        ({"state": SubmissionState.ACCEPTED}, False),
        ({"state": SubmissionState.LISTING, "lease_expires_at": utc_now() - timedelta(seconds=1)}, True),
        ({"state": SubmissionState.LISTING, "lease_expires_at": utc_now() + timedelta(minutes=9)}, False),
    ],
    ids=["never-begun", "just-accepted", "lister-died", "being-listed"],
)
def test_a_listing_that_nobody_does_is_sent_again(context, sent, values, is_sent):
    """Accepted and forgotten, or begun by a worker that died."""
    with context.database.write() as session:
        stalled = add_submission(session, **values)
    reconcile(context)
    assert sent("control") == ([stalled] if is_sent else [])


def test_a_complete_submission_is_finished(context, mine):
    """The last worker died after closing its batch and before it could say so."""
    add(context, mine, [], [ItemState.SKIPPED], state=BatchState.DONE)
    reconcile(context)
    assert submission_of(context.database, mine).state == SubmissionState.DONE


def test_a_broker_that_is_away_keeps_leases_from_nothing(context, mine):
    """Expired batches are queued again; sending waits for the broker's return."""

    class AwayQueue:
        """A broker that cannot be reached."""

        def depths(self):
            raise BrokerAway("away")

        def send_classify(self, _batch_id, _lane):
            raise BrokerAway("away")

    batch_id = add(context, mine, ["a"])
    die(context, batch_id)
    reconcile(replace(context, queue=AwayQueue()))
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.sent_at) == (BatchState.QUEUED, None)


def test_two_reconcilers_at_once_do_each_step_once(context, mine, sent):
    """Two beats, or a beat too many, split a batch once; a message sent twice harms nobody."""
    from threading import Barrier, Thread

    batch_id = add(context, mine, list("abcdef"), attempts=1)
    die(context, batch_id)
    start = Barrier(4)

    def run() -> None:
        start.wait()
        reconcile(context)

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [batch.images for batch in batches_of(context.database, mine)] == [0, 3, 3]
    assert set(sent("bulk")) == {batch.id for batch in batches_of(context.database, mine)[1:]}
    assert_counters_are_exact(context.database, mine)
