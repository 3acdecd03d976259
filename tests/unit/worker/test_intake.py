"""Every file of a submission becomes one item, batches are cut and sent, interruptions lose and double nothing."""

from dataclasses import replace
from datetime import timedelta

import pytest

from core.database import Database
from core.errors import Reason
from core.states import BatchState, ItemState, SubmissionState
from core.tables import utc_now
from core.transitions import cancel_submission
from tests.assets import images
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of
from worker.context import StopRequest
from worker.intake import take_in


@pytest.fixture
def folder(images_root):
    for number in range(10):
        (images_root / f"{number}.png").write_bytes(images.plain(number))
    return images_root


def accept(database: Database, folder, **values) -> str:
    with database.write() as session:
        return add_submission(session, folder, **({"state": SubmissionState.ACCEPTED} | values))


def test_a_folder_becomes_items_and_batches(context, folder, sent):
    """Ten files in batches of four: three batches, committed and sent in their lane; the submission runs."""
    (folder / "notes.txt").touch()
    mine = accept(context.database, folder, lane="nightly")
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.RUNNING
    batches = batches_of(context.database, mine)
    assert [batch.images for batch in batches] == [4, 4, 3]
    assert sent("nightly") == [batch.id for batch in batches]
    assert sent("bulk") == []
    assert all(batch.sent_at for batch in batches)
    items = items_of(context.database, mine)
    assert len(items) == 11
    assert items["notes.txt"].state == ItemState.SKIPPED
    assert_counters_are_exact(context.database, mine)


def test_a_second_message_changes_nothing(context, folder, sent):
    """Messages may come twice."""
    mine = accept(context.database, folder)
    take_in(context, mine)
    take_in(context, mine)
    take_in(context, "missing")
    assert len(items_of(context.database, mine)) == 10
    assert len(sent("bulk")) == 3


def test_a_live_listing_is_left_alone(context, folder):
    """Another worker lists the folder under a lease that holds."""
    mine = accept(
        context.database,
        folder,
        state=SubmissionState.LISTING,
        lease_token="other",
        lease_expires_at=utc_now() + timedelta(minutes=1),
    )
    take_in(context, mine)
    assert items_of(context.database, mine) == {}
    assert submission_of(context.database, mine).lease_token == "other"


def test_an_interrupted_listing_goes_on_without_doubling(context, folder):
    """A worker died after two of the files were recorded: the next one records the other eight."""
    mine = accept(
        context.database,
        folder,
        state=SubmissionState.LISTING,
        lease_token="dead",
        lease_expires_at=utc_now() - timedelta(seconds=1),
    )
    with context.database.write() as session:
        add_batch(session, mine, ["3.png", "7.png"])
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.RUNNING
    assert set(items_of(context.database, mine)) == {f"{number}.png" for number in range(10)}
    assert sum(batch.images for batch in batches_of(context.database, mine)) == 10


def test_a_stopping_worker_hands_its_listing_on(context, folder):
    """The process must end: what was recorded stays, and the next worker need not wait for the lease to run out."""
    mine = accept(context.database, folder)
    stopping = replace(context, stop=StopRequest())
    stopping.stop.ask(0)
    take_in(stopping, mine)
    assert submission_of(context.database, mine).state == SubmissionState.LISTING
    assert len(items_of(context.database, mine)) == 4
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.RUNNING
    assert set(items_of(context.database, mine)) == {f"{number}.png" for number in range(10)}


def test_an_empty_folder_fails_with_its_reason(context, images_root):
    """Nothing to classify is said, not shown as done."""
    (images_root / "empty" / "inner").mkdir(parents=True)
    mine = accept(context.database, images_root / "empty")
    take_in(context, mine)
    failed = submission_of(context.database, mine)
    assert (failed.state, failed.reason) == (SubmissionState.FAILED, Reason.FOLDER_EMPTY)
    assert failed.finished_at is not None
    assert failed.lease_token is None


@pytest.mark.parametrize(("name", "reason"), [("gone", "folder_missing"), ("../outside", "folder_not_allowed")])
def test_a_folder_that_is_gone_or_not_allowed_fails(context, images_root, name, reason):
    """The worker checks again: links may have moved, and its roots may differ from the API's."""
    mine = accept(context.database, images_root / name)
    take_in(context, mine)
    assert submission_of(context.database, mine).reason == reason


def test_a_folder_without_a_single_image_is_done_at_once(context, images_root):
    """All files are settled at listing: nothing is sent, and the submission finishes."""
    (images_root / "notes.txt").touch()
    mine = accept(context.database, images_root)
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.DONE
    assert_counters_are_exact(context.database, mine)


def test_cancelling_stops_a_listing(context, folder):
    """What was cut before the cancel is skipped, what comes after is not recorded."""
    mine = accept(context.database, folder)

    class CancellingQueue:
        """A broker at which, when the first batch arrives, someone cancels."""

        def send_classify(self, _batch_id, _lane):
            with context.database.write() as session:
                cancel_submission(session, mine)

    take_in(replace(context, queue=CancellingQueue()), mine)
    assert submission_of(context.database, mine).state == SubmissionState.CANCELLED
    assert len(items_of(context.database, mine)) == 4
    assert {item.reason for item in items_of(context.database, mine).values()} == {Reason.CANCELLED}
    assert_counters_are_exact(context.database, mine)


def test_a_broker_that_is_away_loses_no_batch(context, folder):
    """The batches are committed and marked unsent: the reconciler sends them later."""
    from core.queue import BrokerAway

    class AwayQueue:
        """A broker that cannot be reached."""

        def send_classify(self, _batch_id, _lane):
            raise BrokerAway("away")

    mine = accept(context.database, folder)
    take_in(replace(context, queue=AwayQueue()), mine)
    assert submission_of(context.database, mine).state == SubmissionState.RUNNING
    assert [batch.sent_at for batch in batches_of(context.database, mine)] == [None] * 3
    assert {batch.state for batch in batches_of(context.database, mine)} == {BatchState.QUEUED}


def test_a_lister_that_lost_its_lease_fails_nobodys_submission(context, images_root):
    """A slow worker whose folder vanished must not end what another worker lists."""
    from worker import intake

    mine = accept(context.database, images_root / "gone")
    slow = intake._claim(context, mine)
    with context.database.write() as session:
        session.get_one(type(slow), mine).lease_token = "another worker"
    intake._fail(context, slow, Reason.FOLDER_MISSING, "gone")
    assert submission_of(context.database, mine).state == SubmissionState.LISTING


def test_a_listing_that_fails_when_resumed_leaves_nothing_pending(context, images_root):
    """The folder vanished between two listers: images that were cut already are skipped, not left for ever."""
    mine = accept(
        context.database,
        images_root / "gone",
        state=SubmissionState.LISTING,
        lease_expires_at=utc_now() - timedelta(seconds=1),
    )
    with context.database.write() as session:
        add_batch(session, mine, ["a.png"])
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.FAILED
    assert items_of(context.database, mine)["a.png"].state == ItemState.SKIPPED
    assert_counters_are_exact(context.database, mine)
