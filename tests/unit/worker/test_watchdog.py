"""A process that is of no use any more ends, leaves nothing in its hands, and blames nobody but the guilty."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from types import SimpleNamespace

import psutil
import pytest
from sqlalchemy.exc import OperationalError

import worker.traffic
import worker.watchdog
from core.errors import Reason, StorageAway
from core.pressure import Gauge
from core.states import BatchState, ItemState, SubmissionState
from core.tables import utc_now
from core.transitions import cancel_submission
from tests.assets import images
from tests.assets.engines import with_engine
from tests.assets.programs import wait_until
from tests.assets.rows import add_batch, add_submission, batches_of, items_of, submission_of
from worker.classify import classify_batch
from worker.context import StopRequest, WorkerContext
from worker.engines.fake import FakeEngine
from worker.holdings import Holding, Holdings
from worker.intake import take_in
from worker.traffic import Traffic
from worker.watchdog import EXIT_RESTART, Watchdog

STUCK_AFTER_S = 300.0


class Parts(SimpleNamespace):
    """What a watchdog looks at, without a database or a broker."""

    def __init__(self, **settings: object) -> None:
        defaults = {
            "stuck_after_s": STUCK_AFTER_S,
            "lease_s": 8.0,
            "worker_concurrency": 2,
            "worker_memory_bytes": 0,
            "deaf_after_s": 30,
        }
        super().__init__(
            settings=SimpleNamespace(**(defaults | settings)),
            holdings=Holdings(),
            traffic=Traffic(),
            stop=StopRequest(),
        )


class Record:
    """What the watchdog did, in order."""

    def __init__(self) -> None:
        self.done: list[object] = []

    def end(self, status: int) -> None:
        self.done.append(status)

    def holding(self, name: str, still_s: float = 0.0, **values: object) -> Holding:
        """A lease on which nothing was done for some seconds; what becomes of it is recorded."""
        actions = {
            what: lambda *_, what=what: self.done.append(f"{name} {what}") for what in ("hand_back", "park", "blame")
        }
        about = {"kind": "batch", "id": 1, "token": name, "progress_at": time.monotonic() - still_s}
        return Holding(**(about | actions | values))


@pytest.fixture
def record() -> Record:
    return Record()


def look_at_progress(record: Record, *holdings: Holding) -> list[object]:
    """What the watchdog does when a process holds these leases."""
    parts = Parts()
    with ExitStack() as held:
        for holding in holdings:
            held.enter_context(parts.holdings.hold(holding))
        Watchdog(parts, end=record.end).look_at_progress()
    return record.done


def test_who_makes_progress_is_left_alone(record):
    """However slow: until the time is over nothing happens."""
    assert look_at_progress(record, record.holding("slow", STUCK_AFTER_S - 20), record.holding("fast")) == []


def test_a_process_without_work_goes_on(record):
    """Nothing stands still where nothing is."""
    assert look_at_progress(record) == []


def test_a_batch_that_stands_still_ends_the_process(record):
    """It counts as one that took its worker down; its neighbours are handed back, and then the process ends."""
    stuck, innocent = record.holding("stuck", STUCK_AFTER_S + 1), record.holding("innocent")
    assert look_at_progress(record, innocent, stuck) == ["innocent hand_back", "stuck blame", EXIT_RESTART]
    assert EXIT_RESTART == 75


def test_work_that_waits_for_storage_is_parked(record):
    """Nobody can be blamed for storage that does not answer; the sentence for people holds no path."""
    said: list[str] = []
    waits = record.holding("waits", STUCK_AFTER_S + 1, waits_for_storage=True, park=said.append)
    innocent = record.holding("innocent", waits_for_storage=True)
    assert look_at_progress(record, waits, innocent) == ["innocent hand_back", EXIT_RESTART]
    (sentence,) = said
    assert "storage" in sentence
    assert "/" not in sentence


def test_a_database_that_is_away_does_not_keep_the_process(record):
    """What cannot be let go of is taken from it later; the rest is let go of now."""

    def refuse() -> None:
        raise OperationalError("UPDATE", {}, Exception("the server closes"))

    stuck = record.holding("stuck", STUCK_AFTER_S + 1, blame=refuse)
    first, last = record.holding("first", hand_back=refuse), record.holding("last")
    assert look_at_progress(record, first, stuck, last) == ["last hand_back", EXIT_RESTART]


def test_a_process_can_be_ended_for_another_reason(record):
    """A broken engine: nobody is guilty, all is handed back."""
    parts = Parts()
    with parts.holdings.hold(record.holding("one")), parts.holdings.hold(record.holding("other")):
        Watchdog(parts, end=record.end).end_process("engine_broken", error="why")
    assert record.done == ["one hand_back", "other hand_back", EXIT_RESTART]


def test_the_process_really_ends():
    """Threads that cannot be ended do not keep it: the status asks whoever supervises it for a new one."""
    script = """
import threading
from types import SimpleNamespace
from worker.holdings import Holdings
from worker.watchdog import Watchdog

threading.Thread(target=threading.Event().wait).start()
Watchdog(SimpleNamespace(holdings=Holdings())).end_process("worker_stuck")
"""
    assert subprocess.run([sys.executable, "-c", script], check=False, timeout=50).returncode == EXIT_RESTART


# The same with real work, on each database.


@pytest.fixture
def release() -> threading.Event:
    """Ends what is stuck."""
    return threading.Event()


class StuckEngine(FakeEngine):
    """Does not come back from a call until it is released."""

    def __init__(self, release: threading.Event) -> None:
        self._release = release
        self.is_called = threading.Event()

    def classify(self, pixels):
        self.is_called.set()
        self._release.wait(60)
        return super().classify(pixels)


class StuckStorage:
    """Threads that read, and hear nothing of their storage until it is released."""

    def __init__(self) -> None:
        self.asked: list[Future[object]] = []

    def submit(self, *_: object) -> Future[object]:
        self.asked.append(Future())
        return self.asked[-1]

    def release(self) -> None:
        for future in self.asked:
            future.set_exception(StorageAway("gone"))


class StuckGauge(Gauge):
    """Does not come back from measuring until it is released."""

    def __init__(self, release: threading.Event) -> None:
        super().__init__()
        self._release = release
        self.is_asked = threading.Event()

    def pressure(self, database, settings):
        self.is_asked.set()
        self._release.wait(60)
        return super().pressure(database, settings)


@pytest.fixture
def start(release) -> Iterator[Callable[..., threading.Thread]]:
    """Work in threads of their own; all have ended when the test has."""
    threads: list[threading.Thread] = []

    def begin(work: Callable[..., None], *arguments: object) -> threading.Thread:
        threads.append(threading.Thread(target=work, args=arguments, daemon=True))
        threads[-1].start()
        return threads[-1]

    yield begin
    release.set()
    for thread in threads:
        thread.join(30)


def submit(context: WorkerContext, images_root, names: str, **values: object) -> tuple[str, int]:
    """A submission with one batch of small images."""
    for name in names:
        (images_root / name).write_bytes(images.plain(seed=ord(name)))
    with context.database.write() as session:
        mine = add_submission(session, images_root, listed_at=utc_now())
        return mine, add_batch(session, mine, list(names), **values)


def stand_still(context: WorkerContext) -> None:
    """Let the time pass in which a batch must make progress."""
    for holding in context.holdings.all():
        holding.progress_at -= context.settings.stuck_after_s


def test_a_stuck_batch_counts_as_a_death(context, images_root, release, start, record):
    """It is queued again as a suspect; its worker's late results are not written over what the next one does."""
    engine = StuckEngine(release)
    stuck = with_engine(context, engine)
    mine, batch_id = submit(context, images_root, "ab")
    work = start(classify_batch, stuck, batch_id)
    assert engine.is_called.wait(30)
    watchdog = Watchdog(stuck, end=record.end)
    watchdog.look_at_progress()
    assert record.done == []
    stand_still(stuck)
    watchdog.look_at_progress()
    assert record.done == [EXIT_RESTART]
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.suspect) == (BatchState.QUEUED, True)
    assert (batch.attempts, batch.expirations) == (1, 1)
    release.set()
    work.join(30)
    assert {item.state for item in items_of(context.database, mine).values()} == {ItemState.PENDING}


def test_a_batch_whose_storage_hangs_parks_its_submission(context, images_root, start, record):
    """No attempt counts, and a batch beside it goes back uncounted, too."""
    storage = StuckStorage()
    stuck = replace(context, readers=storage)
    mine, batch_id = submit(context, images_root, "ab")
    work = start(classify_batch, stuck, batch_id)
    wait_until(lambda: any(holding.waits_for_storage for holding in stuck.holdings.all()), "it waits for storage", 30)
    stand_still(stuck)
    Watchdog(stuck, end=record.end).look_at_progress()
    assert record.done == [EXIT_RESTART]
    parked = submission_of(context.database, mine)
    assert (parked.state, parked.reason, parked.tries) == (SubmissionState.PARKED, Reason.STORAGE_AWAY, 1)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.expirations, batch.suspect) == (BatchState.QUEUED, 0, 0, False)
    storage.release()
    work.join(30)
    assert submission_of(context.database, mine).tries == 1


@pytest.fixture
def listing(context, images_root, release, start) -> tuple[WorkerContext, str]:
    """A worker that stands still in the middle of a listing, and the submission."""
    (images_root / "a").write_bytes(images.plain())
    with context.database.write() as session:
        mine = add_submission(session, images_root, state=SubmissionState.ACCEPTED)
    gauge = StuckGauge(release)
    stuck = replace(context, gauge=gauge)
    start(take_in, stuck, mine)
    assert gauge.is_asked.wait(30)
    return stuck, mine


def test_a_stuck_listing_goes_on_elsewhere(context, listing, record, sent):
    """It is accepted again, and another worker is asked."""
    stuck, mine = listing
    stand_still(stuck)
    Watchdog(stuck, end=record.end).look_at_progress()
    assert record.done == [EXIT_RESTART]
    submission = submission_of(context.database, mine)
    assert (submission.state, submission.lease_token) == (SubmissionState.ACCEPTED, None)
    assert sent("control") == [mine]


@pytest.mark.parametrize("is_guilty", [True, False])
def test_a_listing_that_is_lost_does_not_keep_the_process(context, listing, record, is_guilty):
    """Its submission was cancelled meanwhile: there is nothing to let go of, and the process ends all the same."""
    stuck, mine = listing
    with context.database.write() as session:
        assert cancel_submission(session, mine)
    watchdog = Watchdog(stuck, end=record.end)
    if is_guilty:
        stand_still(stuck)
        watchdog.look_at_progress()
    else:
        watchdog.end_process("worker_deaf")
    assert record.done == [EXIT_RESTART]
    assert submission_of(context.database, mine).state == SubmissionState.CANCELLED


# Deafness


class Listener:
    """A worker whose clock the test turns, and whose watchdog it asks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(worker.traffic, "time", clock)
        monkeypatch.setattr(worker.watchdog, "time", clock)
        self.ended: list[int] = []
        self.parts = Parts()
        self._watchdog = Watchdog(self.parts, end=self.ended.append)

    def listen(self, seconds: int, waiting: int | None = 3) -> list[int]:
        """Look at the traffic every two seconds; how the process ended."""
        for _ in range(0, seconds, 2):
            self.now += 2
            self._watchdog.look_at_traffic(waiting)
        return self.ended


@pytest.fixture
def listener(monkeypatch) -> Listener:
    return Listener(monkeypatch)


def test_a_worker_that_hears_nothing_although_messages_wait_ends(listener):
    """Half a minute of silence, and a lease more, so that a late message is not overheard."""
    assert listener.listen(38) == []
    assert listener.listen(2) == [EXIT_RESTART]


def test_what_it_has_in_hand_is_handed_back(listener, record):
    """A batch that runs meanwhile is not at fault."""
    with listener.parts.holdings.hold(record.holding("innocent")):
        listener.listen(40)
    assert record.done == ["innocent hand_back"]


def test_a_worker_without_work_is_not_deaf(listener):
    """Nothing waits: silence is as it should be."""
    assert listener.listen(1000, waiting=0) == []


def test_while_the_broker_is_away_nobody_is_deaf(listener):
    """It cannot be told whether anything waits; a new process would hear no more."""
    assert listener.listen(1000, waiting=None) == []


def test_a_busy_worker_is_not_deaf(listener):
    """All its threads work: it asks for nothing."""
    with listener.parts.traffic.message(), listener.parts.traffic.message():
        assert listener.listen(1000) == []


def test_a_worker_with_one_free_thread_hears_with_it(listener):
    """A long batch in the other thread is no excuse."""
    with listener.parts.traffic.message():
        assert listener.listen(40) == [EXIT_RESTART]


def test_a_worker_that_stops_is_not_deaf(listener):
    """It takes no messages any more."""
    listener.parts.stop.ask(1000)
    assert listener.listen(1000) == []


@pytest.mark.parametrize("interruption", ["a message", "nothing waits", "the broker is away"])
def test_any_sign_of_life_begins_anew(listener, interruption):
    """Deaf is who was silent without a break."""
    assert listener.listen(36) == []
    if interruption == "a message":
        with listener.parts.traffic.message():
            pass
        assert listener.listen(36) == []
    else:
        assert listener.listen(2, waiting=0 if interruption == "nothing waits" else None) == []
        assert listener.listen(8) == []
    assert listener.listen(4) == [EXIT_RESTART]


# Memory


@pytest.fixture
def terminated() -> Iterator[list[int]]:
    """SIGTERMs that this process got."""
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    yield got
    signal.signal(signal.SIGTERM, before)


def look_at_memory(limit: int, times: int = 1) -> None:
    watchdog = Watchdog(Parts(worker_memory_bytes=limit), end=pytest.fail)
    for _ in range(times):
        watchdog.look_at_memory()


def test_a_process_that_grew_too_large_is_asked_to_end(terminated):
    """By the signal with which everyone asks: what is in hand is finished. It is asked once."""
    look_at_memory(1, times=3)
    assert terminated == [signal.SIGTERM]


@pytest.mark.parametrize("limit", [0, 2**50])
def test_a_process_within_its_limit_is_left_alone(terminated, limit):
    """Without a limit every size is right."""
    look_at_memory(limit)
    assert terminated == []


def test_decoding_processes_count(terminated):
    """A child holds more than the limit leaves."""
    own = psutil.Process(os.getpid())
    before = own.memory_info().rss + sum(child.memory_info().rss for child in own.children(recursive=True))
    script = "import sys; held = b'x' * 100 * 2**20; print('full', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "full\n"
        look_at_memory(before + 50 * 2**20)
        child.communicate("")
    assert terminated == [signal.SIGTERM]
    look_at_memory(before + 50 * 2**20)
    assert len(terminated) == 1
