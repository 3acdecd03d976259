"""What dead workers had in hand goes on: once, and without the one image that kills them."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from sqlmodel import Session

from core.database import Database
from core.errors import Reason
from core.lanes import Lane
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Batch, LaneControl, Submission, utc_now
from core.transitions import abandon_parked_submission, cancel_submission, park_submission
from tests.assets.rows import add_batch, add_submission, assert_counters_are_exact, batches_of, items_of, submission_of
from worker.batches import Outcome, claim_batch, close_batch, hand_back
from worker.context import WorkerContext
from worker.dispatch import top_up
from worker.pipeline import Rejected, Timings
from worker.recovery import expire_batch, expire_listing

SETTLED = (ItemState.SKIPPED, ItemState.FAILED, ItemState.SKIPPED)


@pytest.fixture
def mine(context):
    with context.database.write() as session:
        return add_submission(session, listed_at=utc_now())


def add(context: WorkerContext, mine: str, paths: Sequence[str], settled: Sequence[ItemState] = (), **values) -> int:
    with context.database.write() as session:
        return add_batch(session, mine, paths, settled, **values)


def claim_and_die(context: WorkerContext, batch_id: int) -> str:
    """A worker claims the batch and is never heard of again; the token it held."""
    claim = claim_batch(context.database, batch_id, "dead")
    assert claim is not None
    return claim.token


def kill(context: WorkerContext, batch_id: int) -> Lane | None:
    """A worker dies with the batch in hand, and that is noticed; the lane that has turns to give."""
    return expire_batch(context, claim_and_die(context, batch_id))


def classify(context: WorkerContext, batch_id: int) -> None:
    """A worker finds an outcome for every image of the batch."""
    claim = claim_batch(context.database, batch_id, "alive")
    assert claim is not None
    images = [Rejected(item_id=item.id, reason=Reason.CORRUPT, detail="why") for item in claim.items]
    close_batch(context.database, claim, Outcome(images=images, timings=Timings(), engine="fake"))


def batch_of(context: WorkerContext, batch_id: int) -> Batch:
    with context.database.read() as session:
        return session.get_one(Batch, batch_id)


def queued(context: WorkerContext, mine: str) -> list[Batch]:
    return [batch for batch in batches_of(context.database, mine) if batch.state == BatchState.QUEUED]


def test_the_first_death_costs_nothing_but_the_company(context, mine, sent):
    """The same batch waits for its turn, to be worked on alone; lost power says nothing about images."""
    batch_id = add(context, mine, ["a", "b"], SETTLED)
    assert kill(context, batch_id) == Lane.BULK
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.suspect, batch.lease_token) == (BatchState.QUEUED, True, None)
    assert (batch.attempts, batch.expirations, batch.sent_at) == (1, 1, None)
    assert items_of(context.database, mine)["a"].state == ItemState.PENDING
    assert_counters_are_exact(context.database, mine)
    top_up(context, Lane.BULK)
    assert sent("bulk") == [batch_id]


def test_the_lane_of_the_batch_has_turns_to_give(context, mine):
    """Whoever took the lease sends what is next there."""
    assert kill(context, add(context, mine, ["a"], lane=Lane.URGENT)) == Lane.URGENT


@pytest.mark.parametrize("why", ["paused", "parked"])
def test_what_may_not_start_waits_for_its_turn(context, mine, sent, why):
    """Its lane or its submission stands still: nothing of it is sent."""
    batch_id = add(context, mine, ["a"])
    token = claim_and_die(context, batch_id)
    with context.database.write() as session:
        if why == "paused":
            session.get_one(LaneControl, Lane.BULK).paused_at = utc_now()
        else:
            park_submission(session, mine, "why", 20)
    expire_batch(context, token)
    top_up(context, Lane.BULK)
    batch = batch_of(context, batch_id)
    assert (batch.state, batch.sent_at) == (BatchState.QUEUED, None)
    assert sent("bulk") == []


def test_the_second_death_splits_a_batch(context, mine, sent):
    """Two suspects with half of the images each take its place; what was settled at listing is counted once."""
    batch_id = add(context, mine, list("abcde"), SETTLED)
    kill(context, batch_id)
    assert kill(context, batch_id) == Lane.BULK
    top_up(context, Lane.BULK)
    old, first, second = batches_of(context.database, mine)
    assert (old.state, old.images, old.failed, old.skipped) == (BatchState.SPLIT, 0, 0, 0)
    assert (old.expirations, old.lease_token, old.finished_at is None) == (2, None, False)
    assert (first.images, first.failed, first.skipped) == (5, 1, 2)
    assert (second.images, second.failed, second.skipped) == (3, 0, 0)
    items = items_of(context.database, mine)
    assert {path for path in "abcde" if items[path].batch_id == first.id} == {"a", "b"}
    for half in (first, second):
        assert (half.state, half.suspect, half.expirations) == (BatchState.QUEUED, True, 0)
        assert (half.lane, half.created_at) == (old.lane, old.created_at)
    assert sent("bulk") == [first.id, second.id]
    assert_counters_are_exact(context.database, mine)


def test_a_half_is_split_by_one_more_death(context, mine):
    """Its images have taken workers down already."""
    batch_id = add(context, mine, list("abcd"))
    kill(context, batch_id)
    kill(context, batch_id)
    kill(context, queued(context, mine)[0].id)
    assert [(batch.state, batch.images) for batch in batches_of(context.database, mine)] == [
        (BatchState.SPLIT, 0),
        (BatchState.SPLIT, 0),
        (BatchState.QUEUED, 2),
        (BatchState.QUEUED, 1),
        (BatchState.QUEUED, 1),
    ]
    assert_counters_are_exact(context.database, mine)


@pytest.mark.parametrize("poison_after", [1, 2, 3])
def test_an_image_is_condemned_for_its_own_deaths_only(context, mine, poison_after):
    """However often its batch died: alone it must take as many workers down as a batch must before it is split."""
    settings = context.settings.model_copy(update={"poison_after": poison_after})
    context = replace(context, settings=settings)
    batch_id = add(context, mine, ["a", "b"], SETTLED)
    for _ in range(poison_after):
        assert batch_of(context, batch_id).state == BatchState.QUEUED
        kill(context, batch_id)
    _, innocent, killer = batches_of(context.database, mine)
    for death in range(poison_after):
        assert batch_of(context, killer.id).attempts == death
        assert items_of(context.database, mine)["b"].state == ItemState.PENDING
        kill(context, killer.id)
    items = items_of(context.database, mine)
    assert (items["b"].state, items["b"].reason) == (ItemState.FAILED, Reason.KILLS_WORKER)
    assert f"ended {poison_after} times" in items["b"].detail
    assert items["a"].state == ItemState.PENDING
    assert (batch_of(context, killer.id).state, batch_of(context, killer.id).failed) == (BatchState.DONE, 1)
    classify(context, innocent.id)
    assert_counters_are_exact(context.database, mine)


def test_a_batch_of_one_image_needs_no_split(context, mine):
    """Both deaths were its own; with it the submission is complete."""
    batch_id = add(context, mine, ["killer"], SETTLED)
    kill(context, batch_id)
    kill(context, batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.failed, batch.skipped, batch.expirations) == (BatchState.DONE, 2, 2, 2)
    assert items_of(context.database, mine)["killer"].reason == Reason.KILLS_WORKER
    assert submission_of(context.database, mine).state == SubmissionState.DONE
    assert_counters_are_exact(context.database, mine)


@pytest.mark.parametrize("place", [0, 3, 7])
def test_one_image_that_kills_is_found_among_eight(context, mine, place):
    """Six workers die of it, the other seven images have their outcome, and every count is exact throughout."""
    paths = list("abcdefgh")
    add(context, mine, paths, SETTLED)
    killer = paths[place]
    while waiting := queued(context, mine):
        holder = items_of(context.database, mine)[killer].batch_id
        for batch in waiting:
            if batch.id == holder:
                kill(context, batch.id)
            else:
                classify(context, batch.id)
            assert_counters_are_exact(context.database, mine)
    items = items_of(context.database, mine)
    assert {path for path in paths if items[path].reason == Reason.KILLS_WORKER} == {killer}
    assert {items[path].reason for path in paths} == {Reason.KILLS_WORKER, Reason.CORRUPT}
    # Twice the eight, the four, the two, twice the one.
    assert sum(batch.expirations for batch in batches_of(context.database, mine)) == 6


@pytest.mark.parametrize("attempts", [0, 5])
def test_a_killed_batch_of_a_cancelled_submission_is_cancelled(context, mine, sent, attempts):
    """Nobody waits for it any more, and nobody splits it."""
    batch_id = add(context, mine, ["a", "b"], SETTLED, attempts=attempts)
    token = claim_and_die(context, batch_id)
    with context.database.write() as session:
        assert cancel_submission(session, mine)
    expire_batch(context, token)
    top_up(context, Lane.BULK)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.expirations, batch.lease_token) == (BatchState.CANCELLED, 1, None)
    assert items_of(context.database, mine)["a"].reason == Reason.CANCELLED
    assert sent("bulk") == []
    assert submission_of(context.database, mine).state == SubmissionState.CANCELLED
    assert_counters_are_exact(context.database, mine)


def test_a_killed_batch_of_a_submission_that_was_given_up_is_cancelled(context):
    """Its storage stayed away while its folder was listed."""
    with context.database.write() as session:
        mine = add_submission(session, state=SubmissionState.ACCEPTED)
    batch_id = add(context, mine, ["a"])
    token = claim_and_die(context, batch_id)
    with context.database.write() as session:
        park_submission(session, mine, "why", 20)
        abandon_parked_submission(session, mine)
    expire_batch(context, token)
    assert batch_of(context, batch_id).state == BatchState.CANCELLED
    assert_counters_are_exact(context.database, mine)


class Interrupted(Database):
    """Lets someone else in before each of its writes is committed."""

    def __init__(self, url: str, meanwhile: Callable[[], None]) -> None:
        super().__init__(url)
        self._meanwhile = meanwhile

    @contextmanager
    def write(self) -> Iterator[Session]:
        with super().write() as session:
            yield session
            # Long enough for one that need not wait; one that does goes on after the commit.
            thread = threading.Thread(target=self._meanwhile, daemon=True)
            thread.start()
            thread.join(0.5)


@pytest.mark.parametrize("how", ["expired", "split", "handed back"])
def test_a_batch_that_comes_back_while_its_submission_is_cancelled_is_cancelled(context, mine, how):
    """Whichever is first: no batch waits for ever in a submission that has ended."""
    batch_id = add(context, mine, ["a", "b"], attempts=1 if how == "split" else 0)
    claim = claim_batch(context.database, batch_id, "dead")
    cancelled = threading.Event()

    def cancel() -> None:
        if not cancelled.is_set():
            with context.database.write() as session:
                cancel_submission(session, mine)
            cancelled.set()

    interrupted = Interrupted(context.settings.database, cancel)
    if how == "handed back":
        hand_back(interrupted, claim)
    else:
        expire_batch(replace(context, database=interrupted), claim.token)
    interrupted.close()
    assert cancelled.wait(30)
    assert queued(context, mine) == []
    assert {item.reason for item in items_of(context.database, mine).values()} == {Reason.CANCELLED}


def test_a_lease_that_is_not_as_it_was_seen_is_left_alone(context, mine):
    """Another token, or a heart that beat since: its worker lives."""
    batch_id = add(context, mine, ["a"])
    token = claim_and_die(context, batch_id)
    with context.database.write() as session:
        session.get_one(Batch, batch_id).heartbeats = 7
    assert expire_batch(context, "another") is None
    for heartbeats in (0, 6, 8):
        assert expire_batch(context, token, heartbeats) is None
    batch = batch_of(context, batch_id)
    assert (batch.state, batch.lease_token, batch.expirations) == (BatchState.RUNNING, token, 0)
    assert expire_batch(context, token, 7) == Lane.BULK
    assert batch_of(context, batch_id).state == BatchState.QUEUED


@pytest.mark.parametrize("how", ["handed back", "closed"])
def test_a_lease_that_ended_cannot_be_taken_away(context, mine, how):
    """The worker was slow, and not dead: what it left stays as it is."""
    batch_id = add(context, mine, ["a"])
    claim = claim_batch(context.database, batch_id, "slow")
    if how == "closed":
        images = [Rejected(item_id=claim.items[0].id, reason=Reason.CORRUPT, detail="why")]
        close_batch(context.database, claim, Outcome(images=images, timings=Timings(), engine="fake"))
    else:
        hand_back(context.database, claim)
    before = batch_of(context, batch_id)
    assert expire_batch(context, claim.token) is None
    after = batch_of(context, batch_id)
    assert {name: getattr(after, name) for name in Batch.model_fields} == {
        name: getattr(before, name) for name in Batch.model_fields
    }


def test_many_who_notice_the_same_death_split_once(context, mine):
    """Every worker watches all others."""
    batch_id = add(context, mine, list("abcdef"), SETTLED, attempts=1)
    token = claim_and_die(context, batch_id)
    start = threading.Barrier(4)
    lanes: list[Lane | None] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            start.wait(30)
            lanes.append(expire_batch(context, token, 0))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert sorted(lanes, key=str) == [None, None, None, Lane.BULK]
    assert [batch.images for batch in batches_of(context.database, mine)] == [0, 6, 3]
    assert batch_of(context, batch_id).expirations == 1
    assert_counters_are_exact(context.database, mine)


@pytest.fixture
def listed(context):
    """A submission that a worker lists: it holds the token "t", and its heart beat seven times."""
    with context.database.write() as session:
        mine = add_submission(session, state=SubmissionState.LISTING, lease_token="t", heartbeats=7)
        add_batch(session, mine, ["a"])
        return mine


def test_a_listing_whose_worker_died_goes_on_elsewhere(context, listed):
    """It is accepted again; what it has cut so far stays."""
    expire_listing(context, "t", 7)
    submission = submission_of(context.database, listed)
    assert (submission.state, submission.lease_token, submission.retry_at) == (SubmissionState.ACCEPTED, None, None)
    assert batches_of(context.database, listed)[0].state == BatchState.QUEUED


@pytest.mark.parametrize(("token", "heartbeats"), [("another", 7), ("t", 6), ("t", 8)])
def test_a_listing_that_is_not_as_it_was_seen_is_left_alone(context, listed, token, heartbeats):
    """Another token, or a heart that beat since: its worker lives."""
    expire_listing(context, token, heartbeats)
    submission = submission_of(context.database, listed)
    assert (submission.state, submission.lease_token) == (SubmissionState.LISTING, "t")


def test_a_listing_that_ended_cannot_be_taken_away(context, listed):
    """The worker was slow, and not dead: its submission runs."""
    with context.database.write() as session:
        submission = session.get_one(Submission, listed)
        submission.state = SubmissionState.RUNNING
        submission.lease_token = None
    expire_listing(context, "t", 7)
    assert submission_of(context.database, listed).state == SubmissionState.RUNNING
