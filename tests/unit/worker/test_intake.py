"""Every file of a submission becomes one item, batches are cut and sent, interruptions lose and double nothing."""

from dataclasses import replace

import pytest

from core.database import Database
from core.errors import Reason
from core.pressure import Gauge
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Submission, utc_now
from core.transitions import cancel_submission, unpark_submission
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
    assert submission_of(context.database, mine).listed_at is not None
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
    )
    take_in(context, mine)
    assert items_of(context.database, mine) == {}
    assert submission_of(context.database, mine).lease_token == "other"


def test_an_interrupted_listing_goes_on_without_doubling(context, folder):
    """A worker died after two of the files were recorded: the next one records the other eight."""
    mine = accept(context.database, folder)
    with context.database.write() as session:
        add_batch(session, mine, ["3.png", "7.png"])
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.RUNNING
    assert set(items_of(context.database, mine)) == {f"{number}.png" for number in range(10)}
    assert sum(batch.images for batch in batches_of(context.database, mine)) == 10


def test_a_stopping_worker_hands_its_listing_on(context, folder, sent):
    """The process must end: what was recorded stays, and another worker is asked to go on at once."""
    mine = accept(context.database, folder)
    stopping = replace(context, stop=StopRequest())
    stopping.stop.ask(60)
    take_in(stopping, mine)
    assert submission_of(context.database, mine).state == SubmissionState.ACCEPTED
    assert len(items_of(context.database, mine)) == 4
    assert sent("control") == [mine]
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.RUNNING
    assert set(items_of(context.database, mine)) == {f"{number}.png" for number in range(10)}


def test_a_listing_waits_for_room_and_urgent_ones_do_not(context, folder):
    """Too much waits already: the submission says so, and is listed when there is room; a person does not wait."""
    full = replace(context, settings=context.settings.model_copy(update={"max_waiting_images": 4}), gauge=Gauge())
    with context.database.write() as session:
        crowd = add_submission(session)
        add_batch(session, crowd, list("abcd"))
    mine = accept(context.database, folder)
    take_in(full, mine)
    waiting = submission_of(context.database, mine)
    assert (waiting.state, waiting.reason) == (SubmissionState.ACCEPTED, Reason.QUEUE_FULL)
    assert waiting.retry_at > utc_now()
    assert "4 images wait" in waiting.detail
    urgent = accept(context.database, folder, lane="urgent")
    take_in(full, urgent)
    assert submission_of(context.database, urgent).state == SubmissionState.RUNNING
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.ACCEPTED, "not before retry_at"
    with context.database.write() as session:
        session.get_one(Submission, mine).retry_at = utc_now()
    take_in(context, mine)
    listed = submission_of(context.database, mine)
    assert (listed.state, listed.reason, listed.retry_at) == (SubmissionState.RUNNING, None, None)


def test_a_full_disk_stops_every_listing(context, folder):
    """Nothing more is written where little room is left, urgent or not."""
    full = replace(context, settings=context.settings.model_copy(update={"min_free_bytes": 2**60}), gauge=Gauge())
    mine = accept(context.database, folder, lane="urgent")
    take_in(full, mine)
    waiting = submission_of(context.database, mine)
    assert (waiting.state, waiting.reason) == (SubmissionState.ACCEPTED, Reason.DISK_LOW)
    assert items_of(context.database, mine) == {}


def test_an_empty_folder_fails_with_its_reason(context, images_root):
    """Nothing to classify is said, not shown as done."""
    (images_root / "empty" / "inner").mkdir(parents=True)
    mine = accept(context.database, images_root / "empty")
    take_in(context, mine)
    failed = submission_of(context.database, mine)
    assert (failed.state, failed.reason) == (SubmissionState.FAILED, Reason.FOLDER_EMPTY)
    assert failed.finished_at is not None
    assert failed.lease_token is None


def test_a_folder_that_is_not_allowed_fails(context, images_root):
    """The worker checks again: links may have moved, and its roots may differ from the API's."""
    mine = accept(context.database, images_root / "../outside")
    take_in(context, mine)
    failed = submission_of(context.database, mine)
    assert (failed.state, failed.reason) == (SubmissionState.FAILED, Reason.FOLDER_NOT_ALLOWED)


@pytest.mark.parametrize("source", ["folder", "upload"])
def test_a_folder_that_is_gone_parks_its_submission(context, folder, source):
    """It was there when it was handed in: its storage is away at this worker, and comes back."""
    home = context.settings.uploads_dir if source == "upload" else folder
    mine = accept(context.database, home / "night", source=source)
    take_in(context, mine)
    parked = submission_of(context.database, mine)
    assert (parked.state, parked.reason, parked.lease_token) == (SubmissionState.PARKED, Reason.STORAGE_AWAY, None)
    (home / "night").mkdir(parents=True)
    (home / "night" / "a.png").write_bytes(images.plain())
    with context.database.write() as session:
        assert unpark_submission(session, mine)
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.RUNNING


def test_a_folder_that_shows_no_file_any_more_parks_its_submission(context, images_root):
    """Files of it are recorded: an empty mount point is no empty folder."""
    mine = accept(context.database, images_root)
    with context.database.write() as session:
        add_batch(session, mine, ["a.png"])
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.PARKED
    assert items_of(context.database, mine)["a.png"].state == ItemState.PENDING


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
    from worker import intake, listing_lease

    mine = accept(context.database, images_root / "gone")
    slow = intake._claim(context, mine)
    with context.database.write() as session:
        session.get_one(type(slow), mine).lease_token = "another worker"
    listing_lease.fail(context, slow, Reason.FOLDER_MISSING, "gone")
    assert submission_of(context.database, mine).state == SubmissionState.LISTING


def test_a_listing_that_fails_when_resumed_leaves_nothing_pending(context, images_root):
    """The folder is not allowed any more: images that were cut already are skipped, not left for ever."""
    mine = accept(context.database, images_root / "../elsewhere")
    with context.database.write() as session:
        add_batch(session, mine, ["a.png"])
    take_in(context, mine)
    assert submission_of(context.database, mine).state == SubmissionState.FAILED
    assert items_of(context.database, mine)["a.png"].state == ItemState.SKIPPED
    assert_counters_are_exact(context.database, mine)
