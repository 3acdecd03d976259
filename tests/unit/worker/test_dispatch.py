"""The broker holds the next few batches of each lane, and no more; the database says whose turn it is."""

import threading
from dataclasses import replace

import pytest
from sqlmodel import col, select

from core.lanes import Lane
from core.queue import BrokerAway
from core.states import BatchState, SubmissionState
from core.tables import Batch, LaneControl, Share, utc_now
from core.transitions import move, park_submission, unpark_submission
from tests.assets.rows import add_batch, add_submission, batches_of, submission_of
from worker.batches import claim_batch
from worker.classify import classify_batch
from worker.context import WorkerContext, open_context
from worker.dispatch import finish, put_back, top_up


def hand_in(context: WorkerContext, batches: int, images: int = 256, **values: object) -> list[int]:
    """Add a submission whose batches all wait for their turn; their ids."""
    lane = values.get("lane", Lane.BULK)
    with context.database.write() as session:
        mine = add_submission(session, **values)
        return [add_batch(session, mine, [], images=images, lane=lane, sent_at=None) for _ in range(batches)]


def at_broker(context: WorkerContext, lane: Lane = Lane.BULK) -> list[int]:
    """Batches that count as sent, in the order of their ids."""
    query = select(Batch.id).where(
        Batch.state == BatchState.QUEUED, Batch.lane == lane, col(Batch.sent_at).is_not(None)
    )
    with context.database.read() as session:
        return list(session.exec(query.order_by(col(Batch.id))))


def work_off(context: WorkerContext, lane: Lane = Lane.BULK) -> None:
    """Close all batches of a lane that wait at the broker."""
    with context.database.write() as session:
        move(
            session,
            Batch,
            [BatchState.QUEUED],
            BatchState.DONE,
            col(Batch.sent_at).is_not(None),
            col(Batch.lane) == lane,
        )


def set_running(context: WorkerContext, batch_ids: list[int]) -> None:
    with context.database.write() as session:
        move(session, Batch, [BatchState.QUEUED], BatchState.RUNNING, col(Batch.id).in_(batch_ids))


class FaultyBroker:
    """Takes some messages, then none."""

    def __init__(self, takes: int) -> None:
        self.takes = takes
        self.sent: list[int] = []

    def send_classify(self, batch_id: int, _lane: Lane) -> None:
        if len(self.sent) == self.takes:
            raise BrokerAway("the broker does not take messages")
        self.sent.append(batch_id)


def test_four_batches_of_a_lane_wait_at_the_broker(context, sent):
    """Not one more, however often it is asked for; what was sent is marked with the time."""
    ids = hand_in(context, 10)
    before = utc_now()
    for _ in range(3):
        top_up(context, Lane.BULK)
    assert sent("bulk") == ids[:4] == at_broker(context)
    with context.database.read() as session:
        assert before <= session.get_one(Batch, ids[0]).sent_at <= utc_now()


def test_twice_the_running_batches_wait_at_the_broker(context, sent):
    """Many workers take more between two sendings; whatever lane their batches are of."""
    set_running(context, hand_in(context, 3) + hand_in(context, 2, lane=Lane.URGENT))
    ids = hand_in(context, 20)
    top_up(context, Lane.BULK)
    assert sent("bulk") == ids[:10]


def test_nothing_is_sent_until_half_is_gone(context, sent):
    """One turn at a time would cost a transaction for every claim."""
    ids = hand_in(context, 10)
    top_up(context, Lane.BULK)
    assert claim_batch(context.database, ids[0], "w") is not None
    top_up(context, Lane.BULK)
    assert sent("bulk") == ids[:4]
    assert claim_batch(context.database, ids[1], "w") is not None
    top_up(context, Lane.BULK)
    assert sent("bulk") == ids[:6]
    assert at_broker(context) == ids[2:6]


def test_the_last_few_are_sent_too(context, sent):
    """Fewer than there is room for."""
    ids = hand_in(context, 2)
    top_up(context, Lane.BULK)
    assert sent("bulk") == ids


def test_each_lane_has_its_own_queue_and_its_own_room(context, sent):
    """A full bulk lane leaves the room of others alone."""
    bulk, urgent = hand_in(context, 5), hand_in(context, 5, lane=Lane.URGENT)
    top_up(context, Lane.BULK)
    assert (sent("bulk"), sent("urgent")) == (bulk[:4], [])
    top_up(context, Lane.URGENT)
    assert (sent("bulk"), sent("urgent")) == (bulk[:4], urgent[:4])


def test_nothing_of_a_paused_lane_is_sent(context, sent):
    """Until it runs again; other lanes go on."""
    bulk, urgent = hand_in(context, 1), hand_in(context, 1, lane=Lane.URGENT)
    with context.database.write() as session:
        session.get_one(LaneControl, Lane.BULK).paused_at = utc_now()
    for lane in Lane:
        top_up(context, lane)
    assert (sent("bulk"), sent("urgent")) == ([], urgent)
    with context.database.write() as session:
        session.get_one(LaneControl, Lane.BULK).paused_at = None
    top_up(context, Lane.BULK)
    assert sent("bulk") == bulk


@pytest.mark.parametrize("state", [SubmissionState.CANCELLED, SubmissionState.FAILED, SubmissionState.DONE])
def test_nothing_of_a_submission_that_has_ended_is_sent(context, sent, state):
    """A batch that came back too late for the cancellation waits; those of others go before it."""
    hand_in(context, 5, state=state)
    others = hand_in(context, 1)
    top_up(context, Lane.BULK)
    assert sent("bulk") == others


@pytest.mark.parametrize("state", [SubmissionState.ACCEPTED, SubmissionState.LISTING, SubmissionState.RUNNING])
def test_batches_are_sent_while_their_folder_is_listed(context, sent, state):
    """And when the listing was interrupted."""
    ids = hand_in(context, 2, state=state)
    top_up(context, Lane.BULK)
    assert sent("bulk") == ids


def test_a_parked_submission_waits_and_keeps_nobody_waiting(context, sent):
    """Its storage is away: its batches go when it is tried again, in their turn."""
    parked = hand_in(context, 6, id="1" * 32, listed_at=utc_now())
    with context.database.write() as session:
        assert park_submission(session, "1" * 32, "why", 20)
    others = hand_in(context, 1)
    top_up(context, Lane.BULK)
    assert sent("bulk") == others
    with context.database.write() as session:
        assert unpark_submission(session, "1" * 32)
    top_up(context, Lane.BULK)
    assert sent("bulk") == others + parked[:3]


def test_earlier_submissions_of_a_submitter_go_first(context, sent):
    """First come, first served, by the submission's own age and not its batches'."""
    later = hand_in(context, 3, id="2" * 32)
    earlier = hand_in(context, 3, id="1" * 32)
    top_up(context, Lane.BULK)
    assert sent("bulk") == [*earlier, later[0]]


def test_two_submitters_alternate(context, sent):
    """Whoever came first, and however much."""
    ann, ben = hand_in(context, 40, submitter="ann"), hand_in(context, 2, submitter="ben")
    top_up(context, Lane.BULK)
    assert sent("bulk") == [ann[0], ben[0], ann[1], ben[1]]


def test_weights_come_from_the_settings(context):
    """Over 80 turns three times as much for a weight of three: shares are remembered from one refill to the next."""
    context = replace(context, settings=context.settings.model_copy(update={"shares": {"ann": 3.0}}))
    ann, ben = hand_in(context, 80, submitter="ann"), hand_in(context, 80, submitter="ben")
    for _ in range(20):
        top_up(context, Lane.BULK)
        work_off(context)
    with context.database.read() as session:
        done = set(session.exec(select(Batch.id).where(Batch.state == BatchState.DONE)))
        shares = {row.submitter: row.served for row in session.exec(select(Share))}
    assert (len(done & set(ann)), len(done & set(ben))) == (60, 20)
    assert shares == pytest.approx({"ann": 20 * 256.0, "ben": 20 * 256.0})


def test_four_hundred_batches_keep_nobody_waiting(context, sent):
    """Someone else's single batch goes in the next two turns."""
    hand_in(context, 400, submitter="ann")
    for _ in range(5):
        top_up(context, Lane.BULK)
        work_off(context)
    before = sent("bulk")
    (single,) = hand_in(context, 1, submitter="ben")
    top_up(context, Lane.BULK)
    assert single in sent("bulk")[len(before) : len(before) + 2]


def test_who_comes_later_does_not_catch_up(context, sent):
    """The lane's time is remembered from one refill to the next: from now on the two alternate."""
    ann = hand_in(context, 40, submitter="ann")
    for _ in range(5):
        top_up(context, Lane.BULK)
        work_off(context)
    ben = hand_in(context, 8, submitter="ben")
    for _ in range(2):
        top_up(context, Lane.BULK)
        work_off(context)
    assert len(set(sent("bulk")[20:]) & set(ann)) >= 3
    assert len(set(sent("bulk")[20:]) & set(ben)) >= 4


def test_a_share_counts_in_its_own_lane(context, sent):
    """Who had much of the urgent lane is not behind in bulk."""
    hand_in(context, 40, submitter="ann", lane=Lane.URGENT)
    for _ in range(10):
        top_up(context, Lane.URGENT)
        work_off(context, Lane.URGENT)
    ann, ben = hand_in(context, 4, submitter="ann"), hand_in(context, 4, submitter="ben")
    top_up(context, Lane.BULK)
    assert sent("bulk") == [ann[0], ben[0], ann[1], ben[1]]


@pytest.mark.parametrize("takes", [0, 2])
def test_what_the_broker_did_not_take_waits_for_another_turn(context, sent, takes):
    """Nothing counts as sent that was not, so that it goes when the broker is back."""
    ids = hand_in(context, 6)
    broker = FaultyBroker(takes)
    top_up(replace(context, queue=broker), Lane.BULK)
    assert broker.sent == at_broker(context) == ids[:takes]
    top_up(context, Lane.BULK)
    assert sent("bulk") == ids[takes:4]


def test_who_tops_up_at_the_same_moment_sends_nothing_twice(context, sent):
    """Six at once, five times: what the first sends is not sent again, and not more than there is room for."""
    ids = hand_in(context, 20)
    errors: list[BaseException] = []

    def run(start: threading.Barrier) -> None:
        try:
            start.wait(30)
            top_up(context, Lane.BULK)
        except BaseException as error:
            errors.append(error)

    for done in range(4, 24, 4):
        start = threading.Barrier(6)
        threads = [threading.Thread(target=run, args=(start,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == []
        assert sorted(sent("bulk")) == ids[:done]
        work_off(context)


def test_who_is_not_in_time_does_not_wait(settings, postgres_url, sent):
    """On PostgreSQL a lane whose turns another gives at this moment is left to him."""
    context = open_context(settings.model_copy(update={"database_url": postgres_url, "decode_processes": 1}))
    context.database.migrate()
    ids = hand_in(context, 4)
    with context.database.write() as session:
        session.exec(select(LaneControl).where(LaneControl.lane == Lane.BULK).with_for_update()).one()
        top_up(context, Lane.BULK)
        assert sent("bulk") == []
    top_up(context, Lane.BULK)
    assert sent("bulk") == ids
    context.close()


def test_messages_of_a_parked_submission_make_room_for_others(context, sent):
    """They come to nothing one by one, and whoever waits behind them goes: no lane stands still for one's storage."""
    parked = hand_in(context, 4, id="1" * 32, submitter="ann")
    top_up(context, Lane.BULK)
    with context.database.write() as session:
        assert park_submission(session, "1" * 32, "why", 20)
    (other,) = hand_in(context, 1, submitter="ben")
    for batch_id in parked:
        classify_batch(context, batch_id)
    assert other in sent("bulk")


def test_only_what_is_queued_can_be_put_back(context):
    """A batch that a worker has taken meanwhile keeps its mark."""
    queued, running = hand_in(context, 2)
    top_up(context, Lane.BULK)
    set_running(context, [running])
    put_back(context, [queued, running])
    with context.database.read() as session:
        assert session.get_one(Batch, queued).sent_at is None
        assert session.get_one(Batch, running).sent_at is not None


def test_a_submission_is_finished_with_its_last_batch(context):
    """Not while one is queued or running; asking again changes nothing."""
    first, last = hand_in(context, 2, id="1" * 32, images=0)
    for batch_id, state in ((first, SubmissionState.RUNNING), (last, SubmissionState.DONE)):
        with context.database.write() as session:
            move(session, Batch, [BatchState.QUEUED], BatchState.DONE, col(Batch.id) == batch_id)
        finish(context, "1" * 32)
        assert submission_of(context.database, "1" * 32).state == state
    ended = submission_of(context.database, "1" * 32).finished_at
    finish(context, "1" * 32)
    assert submission_of(context.database, "1" * 32).finished_at == ended
    assert {batch.state for batch in batches_of(context.database, "1" * 32)} == {BatchState.DONE}
