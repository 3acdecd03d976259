"""A worker's leases live while it lives, and those of dead workers are taken, whatever else is down."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

import worker.pulse
from core.database import Database
from core.lanes import Lane
from core.queue import BrokerAway
from core.states import BatchState, SubmissionState
from core.tables import Batch, Submission, utc_now
from tests.assets.programs import wait_until
from tests.assets.rows import add_batch, add_submission, batches_of, submission_of
from worker.batches import Claim, claim_batch
from worker.context import WorkerContext
from worker.holdings import Holding, Holdings
from worker.pulse import Pulse
from worker.watchdog import EXIT_RESTART, Watchdog

# Short, but long enough that a machine with much to do is not late by a whole lease.
LEASE_S = 0.8


@pytest.fixture
def hasty(context, tmp_path) -> WorkerContext:
    """A worker with short leases and a health file."""
    (tmp_path / "health").mkdir()
    changes = {"lease_s": LEASE_S, "health_file": tmp_path / "health" / "health.json"}
    return replace(context, settings=context.settings.model_copy(update=changes))


@pytest.fixture
def clock(monkeypatch):
    """The pulse's clock, which the test turns."""
    turned = SimpleNamespace(now=100.0)
    monkeypatch.setattr(worker.pulse, "time", SimpleNamespace(monotonic=lambda: turned.now))
    return turned


def pulse_of(context: WorkerContext) -> Pulse:
    return Pulse(context, Watchdog(context, end=pytest.fail))


@pytest.fixture
def begin() -> Iterator[Callable[[Pulse], Pulse]]:
    """Have pulses beat by themselves until the test ends."""
    begun: list[Pulse] = []

    def start(pulse: Pulse) -> Pulse:
        begun.append(pulse)
        pulse.start()
        return pulse

    yield start
    for pulse in begun:
        pulse.stop()


def claim_one(context: WorkerContext) -> Claim:
    """A batch that was claimed a moment ago."""
    with context.database.write() as session:
        batch_id = add_batch(session, add_submission(session, listed_at=utc_now()), ["a"])
    claim = claim_batch(context.database, batch_id, "w")
    assert claim is not None
    return claim


def list_one(context: WorkerContext) -> str:
    """A submission whose listing began a moment ago, under the token "listing"."""
    with context.database.write() as session:
        return add_submission(session, state=SubmissionState.LISTING, lease_token="listing")


def hold(kind: str, identity: int | str, token: str, **values: object) -> Holding:
    def let_go(*_: object) -> None:
        return

    defaults = {"kind": kind, "id": identity, "token": token, "hand_back": let_go, "park": let_go, "blame": let_go}
    return Holding(**(defaults | values))


def hold_claim(claim: Claim) -> Holding:
    return hold("batch", claim.batch_id, claim.token)


def batch_of(context: WorkerContext, claim: Claim) -> Batch:
    (batch,) = batches_of(context.database, claim.submission_id)
    return batch


class SometimesAway:
    """A database that refuses everything while it is away."""

    def __init__(self, database: Database, *, is_away: bool = False) -> None:
        self._database = database
        self.is_away = is_away
        self.refusals = 0

    def write(self) -> AbstractContextManager[Session]:
        return self._ask().write()

    def read(self) -> AbstractContextManager[Session]:
        return self._ask().read()

    def ping(self) -> None:
        self._ask().ping()

    def _ask(self) -> Database:
        if self.is_away:
            self.refusals += 1
            raise OperationalError("BEGIN", {}, Exception("the server closes"))
        return self._database


class AwayBroker:
    """Cannot be reached."""

    def depths(self) -> dict[str, int]:
        raise BrokerAway("away")

    def send_classify(self, _batch_id: int, _lane: Lane) -> None:
        raise BrokerAway("away")


class HangingBroker(AwayBroker):
    """Vanished without a word: whoever asks it waits."""

    def __init__(self) -> None:
        self.is_back = threading.Event()

    def depths(self) -> dict[str, int]:
        self.is_back.wait(60)
        return super().depths()

    def send_classify(self, _batch_id: int, _lane: Lane) -> None:
        self.is_back.wait(60)
        super().send_classify(_batch_id, _lane)


# The heart


def test_what_is_held_is_kept_alive(context):
    """Each beat is one heartbeat, for batches and for listings, and for nothing else."""
    claim, listing, other = claim_one(context), list_one(context), claim_one(context)
    with context.holdings.hold(hold_claim(claim)), context.holdings.hold(hold("submission", listing, "listing")):
        pulse = pulse_of(context)
        for beat in (1, 2, 3):
            pulse.beat()
            assert batch_of(context, claim).heartbeats == beat
            assert submission_of(context.database, listing).heartbeats == beat
        assert not any(holding.is_lost for holding in context.holdings.all())
    assert batch_of(context, other).heartbeats == 0
    pulse.beat()
    assert batch_of(context, claim).heartbeats == 3


@pytest.mark.parametrize("how", ["another holds it", "handed back"])
def test_a_batch_that_was_taken_away_is_marked_as_lost(context, how):
    """Its work is then abandoned; the new holder's heart is not helped."""
    claim = claim_one(context)
    holding = hold_claim(claim)
    with context.database.write() as session:
        batch = session.get_one(Batch, claim.batch_id)
        batch.lease_token = "another" if how == "another holds it" else None
        batch.state = BatchState.RUNNING if how == "another holds it" else BatchState.QUEUED
    with context.holdings.hold(holding):
        pulse_of(context).beat()
    assert holding.is_lost
    assert batch_of(context, claim).heartbeats == 0


def test_a_listing_that_was_taken_away_is_marked_as_lost(context):
    """Its submission was cancelled, or another lists it."""
    listing = list_one(context)
    holding = hold("submission", listing, "listing")
    with context.database.write() as session:
        session.get_one(Submission, listing).state = SubmissionState.CANCELLED
    with context.holdings.hold(holding):
        pulse_of(context).beat()
    assert holding.is_lost


def test_a_database_that_is_away_takes_no_lease(context):
    """Nothing counts as lost that could not be asked for; the heart goes on when the database is back."""
    database = SometimesAway(context.database, is_away=True)
    claim = claim_one(context)
    holding = hold_claim(claim)
    pulse = pulse_of(replace(context, database=database))
    with context.holdings.hold(holding):
        for _ in range(3):
            with pytest.raises(OperationalError):
                pulse.beat()
        assert not holding.is_lost
        database.is_away = False
        pulse.beat()
    assert not holding.is_lost
    assert batch_of(context, claim).heartbeats == 1


def test_each_beat_looks_for_work_that_stands_still(context):
    """And ends the process, also while the database is away."""
    ended: list[int] = []
    away = replace(context, database=SometimesAway(context.database, is_away=True))
    stuck = hold("batch", 1, "t")
    stuck.progress_at -= context.settings.stuck_after_s + 1
    with away.holdings.hold(stuck), pytest.raises(OperationalError):
        Pulse(away, Watchdog(away, end=ended.append)).beat()
    assert ended == [EXIT_RESTART]


# The watch over others


def test_what_a_dead_worker_held_is_taken(context, clock, sent):
    """After a lease, and not a moment earlier: the batch goes to the next, the listing goes on."""
    claim, listing = claim_one(context), list_one(context)
    pulse = pulse_of(context)
    lease_s = context.settings.lease_s
    for part in (0, 0.25, 0.5, 0.75, 0.99):
        clock.now = 100 + part * lease_s
        pulse.watch_others()
        assert batch_of(context, claim).state == BatchState.RUNNING
        assert submission_of(context.database, listing).state == SubmissionState.LISTING
    clock.now = 100 + lease_s
    pulse.watch_others()
    batch = batch_of(context, claim)
    assert (batch.state, batch.suspect, batch.expirations, batch.attempts) == (BatchState.QUEUED, True, 1, 1)
    assert submission_of(context.database, listing).state == SubmissionState.ACCEPTED
    assert sent("bulk") == [claim.batch_id]


def test_two_workers_that_live_take_nothing_from_each_other(context, clock):
    """For ten leases each hears the other's heart, however slowly it beats within a lease."""
    other = replace(context, holdings=Holdings())
    claims = [claim_one(context), claim_one(other)]
    listing = list_one(other)
    pulses = [pulse_of(context), pulse_of(other)]
    with (
        context.holdings.hold(hold_claim(claims[0])),
        other.holdings.hold(hold_claim(claims[1])),
        other.holdings.hold(hold("submission", listing, "listing")),
    ):
        for beat in range(40):
            clock.now += context.settings.lease_s / 4
            for pulse in pulses:
                if beat % 3 == 0:
                    pulse.beat()
                pulse.watch_others()
    for claim in claims:
        assert (batch_of(context, claim).state, batch_of(context, claim).heartbeats) == (BatchState.RUNNING, 14)
    assert submission_of(context.database, listing).state == SubmissionState.LISTING


def test_a_worker_that_slept_takes_nothing_in_haste(context, clock):
    """A machine that was paused heard nobody: all others may have lived meanwhile."""
    claim = claim_one(context)
    pulse = pulse_of(context)
    for pause in (0, 1, 1, 1, context.settings.lease_s + 1):
        clock.now += pause
        pulse.watch_others()
    assert batch_of(context, claim).state == BatchState.RUNNING


def test_nobody_is_taken_for_dead_because_the_database_was_away(context, clock):
    """The other worker could not be heard, either."""
    database = SometimesAway(context.database)
    claim = claim_one(context)
    pulse = pulse_of(replace(context, database=database))
    for look in range(12):
        clock.now += context.settings.lease_s / 4
        database.is_away = 3 <= look < 10
        if database.is_away:
            with pytest.raises(OperationalError):
                pulse.watch_others()
        else:
            pulse.watch_others()
    assert batch_of(context, claim).state == BatchState.RUNNING


def test_dead_workers_are_noticed_without_a_broker(context, clock):
    """Their batches wait for their turn until it is back."""
    claim = claim_one(context)
    pulse = pulse_of(replace(context, queue=AwayBroker()))
    for _ in range(5):
        clock.now += context.settings.lease_s / 4
        pulse.watch_others()
    assert (batch_of(context, claim).state, batch_of(context, claim).sent_at) == (BatchState.QUEUED, None)


# The look at the process


def test_a_worker_that_hears_both_says_so(hasty):
    """The health file names what is in hand."""
    claim = claim_one(hasty)
    pulse = pulse_of(hasty)
    pulse.beat()
    pulse.look_after_process()
    assert json.loads(hasty.settings.health_file.read_text())["in_hand"] == []
    with hasty.holdings.hold(hold_claim(claim)):
        pulse.look_after_process()
    assert json.loads(hasty.settings.health_file.read_text())["in_hand"] == [{"kind": "batch", "id": claim.batch_id}]


def test_a_worker_that_hears_no_broker_says_nothing(hasty):
    """No work can come to it."""
    pulse = pulse_of(replace(hasty, queue=AwayBroker()))
    pulse.beat()
    pulse.look_after_process()
    assert not hasty.settings.health_file.exists()


def test_a_worker_that_hears_no_database_says_nothing(hasty):
    """Neither before its first beat, nor while the last one failed."""
    database = SometimesAway(hasty.database)
    pulse = pulse_of(replace(hasty, database=database))
    pulse.look_after_process()
    assert not hasty.settings.health_file.exists()
    pulse.beat()
    database.is_away = True
    with pytest.raises(OperationalError):
        pulse.beat()
    pulse.look_after_process()
    assert not hasty.settings.health_file.exists()
    database.is_away = False
    pulse.beat()
    pulse.look_after_process()
    assert hasty.settings.health_file.exists()


def test_the_watchdog_learns_how_many_messages_wait(context):
    """Over all queues; nothing where the broker does not answer."""

    class Watcher(Watchdog):
        """Notes what it is told."""

        def __init__(self) -> None:
            super().__init__(context, end=pytest.fail)
            self.told: list[int | None] = []
            self.looks_at_memory = 0

        def look_at_traffic(self, waiting: int | None) -> None:
            self.told.append(waiting)

        def look_at_memory(self) -> None:
            self.looks_at_memory += 1

    watchdog = Watcher()
    context.queue.send_intake("s")
    context.queue.send_classify(1, Lane.NIGHTLY)
    Pulse(context, watchdog).look_after_process()
    Pulse(replace(context, queue=AwayBroker()), watchdog).look_after_process()
    assert watchdog.told == [2, None]
    assert watchdog.looks_at_memory == 2


# All three by themselves


def test_it_beats_by_itself_until_it_is_stopped(hasty):
    """A batch that takes long keeps its lease, a dead worker's listing is taken, and the worker says it is well."""
    claim, dead = claim_one(hasty), list_one(hasty)
    before = threading.active_count()
    pulse = pulse_of(hasty)
    with hasty.holdings.hold(hold_claim(claim)):
        pulse.start()
        try:
            wait_until(lambda: batch_of(hasty, claim).heartbeats >= 4, "the heart beats", 30)
            taken = SubmissionState.ACCEPTED
            wait_until(lambda: submission_of(hasty.database, dead).state == taken, "the listing is taken", 30)
            wait_until(hasty.settings.health_file.exists, "the worker says that it is well", 30)
        finally:
            pulse.stop()
        heartbeats = batch_of(hasty, claim).heartbeats
    assert batch_of(hasty, claim).state == BatchState.RUNNING
    assert batch_of(hasty, claim).heartbeats == heartbeats
    assert threading.active_count() == before


def test_it_outlives_a_database_that_is_away(hasty, begin):
    """All goes on when it is back."""
    database = SometimesAway(hasty.database, is_away=True)
    claim = claim_one(hasty)
    with hasty.holdings.hold(hold_claim(claim)):
        begin(pulse_of(replace(hasty, database=database)))
        wait_until(lambda: database.refusals >= 4, "the database was asked in vain", 30)
        assert batch_of(hasty, claim).heartbeats == 0
        database.is_away = False
        wait_until(lambda: batch_of(hasty, claim).heartbeats >= 2, "the heart beats again", 30)
        wait_until(hasty.settings.health_file.exists, "the worker says that it is well", 30)


def test_a_broker_that_hangs_does_not_silence_the_heart(hasty, begin):
    """Whoever asks it waits; leases are kept and taken meanwhile."""
    broker = HangingBroker()
    hanging = replace(hasty, queue=broker)
    claim, dead = claim_one(hasty), claim_one(hasty)
    try:
        with hanging.holdings.hold(hold_claim(claim)):
            begin(pulse_of(hanging))
            wait_until(lambda: batch_of(hasty, dead).state == BatchState.QUEUED, "the dead one's batch is taken", 30)
            heartbeats = batch_of(hasty, claim).heartbeats
            wait_until(lambda: batch_of(hasty, claim).heartbeats >= heartbeats + 5, "the heart beats on", 30)
    finally:
        broker.is_back.set()
    assert not hasty.settings.health_file.exists()


def test_a_beat_that_fails_is_not_the_last(hasty, begin):
    """Without its pulse the worker would lose every batch that it takes."""

    class Clumsy(Watchdog):
        """Fails at its first two looks."""

        looks = 0

        def look_at_progress(self) -> None:
            self.looks += 1
            if self.looks <= 2:
                raise ZeroDivisionError

    watchdog = Clumsy(hasty, end=pytest.fail)
    begin(Pulse(hasty, watchdog))
    wait_until(lambda: watchdog.looks >= 4, "the heart beats on", 30)
    wait_until(hasty.settings.health_file.exists, "the worker says that it is well", 30)
