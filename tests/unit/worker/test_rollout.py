"""The rollout: what is active in the database comes to serve, or the worker says why not and tries again."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import select

import worker.rollout
from core.database import Database
from core.errors import EngineError
from core.presence import WorkerState, read_workers
from core.serving_tables import ModelActivation
from core.states import BatchState
from core.tables import Result, utc_now
from tests.assets import images
from tests.assets.programs import wait_until
from tests.assets.rows import add_batch, add_submission, batches_of
from tests.unit.worker.test_serving import serving_of
from worker.classify import classify_batch
from worker.engines.fake import FakeEngine
from worker.presence import Presence
from worker.rollout import Rollout
from worker.serving import Serving, Slot, Wanted

DEFAULT = Wanted("default@1.0.0")


@dataclass
class Loader:
    """Loads what it is asked for, and fails for some."""

    broken: set[str | None] = field(default_factory=set)
    asked: list[str | None] = field(default_factory=list)
    error: type[Exception] = EngineError

    def __call__(self, _settings: object, wanted: Wanted | None) -> Serving:
        self.asked.append(wanted.model_version if wanted else None)
        if self.asked[-1] in self.broken:
            raise self.error(f"{self.asked[-1]} does not load")
        return serving_of(wanted or DEFAULT)


def activated(database: Database, model_version: str) -> None:
    with database.write() as session:
        session.add(ModelActivation(who="anna", model_version=model_version))


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def slot() -> Iterator[Slot]:
    opened = Slot()
    yield opened
    opened.close()


@dataclass
class Clock:
    """A monotonic clock that stands still until a test moves it."""

    now: float = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock by which tries are repeated."""
    clock = Clock()
    monkeypatch.setattr(worker.rollout, "time", clock)
    return clock


@pytest.fixture
def database(sqlite_url) -> Iterator[Database]:
    """What is active is one question, which the tests of core ask on both databases."""
    opened = Database(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def rollout(settings, database, slot, loader) -> Rollout:
    """On SQLite."""
    return Rollout(settings.model_copy(update={"engine": "openvino", "lease_s": 0.4}), database, slot, loader)


def serves(slot: Slot) -> str | None:
    with slot.lend(0) as serving:
        return serving.model_version if serving else None


def test_without_an_activation_the_settings_say_what_serves(rollout, slot):
    """And it goes on until one comes."""
    rollout.begin()
    rollout.follow()
    assert serves(slot) == DEFAULT.model_version


def test_an_activation_goes_before_the_settings(rollout, slot, loader, database):
    """From a worker's start on; the newest counts."""
    activated(database, "m@1.0.0")
    activated(database, "m@2.0.0")
    rollout.begin()
    assert serves(slot) == "m@2.0.0"
    assert loader.asked == ["m@2.0.0"]


def test_the_first_activation_and_each_later_one_is_followed(rollout, slot, loader, database):
    """What serves already is not loaded again."""
    rollout.begin()
    for version in ("m@1.0.0", "m@2.0.0", "m@2.0.0", "m@1.0.0"):
        activated(database, version)
        rollout.follow()
        assert serves(slot) == version
    assert loader.asked == [None, "m@1.0.0", "m@2.0.0", "m@1.0.0"]


def test_whoever_looks_first_keeps_batches_from_another_model(rollout, slot, database):
    """A batch looks before it is claimed: no batch begins with a model after another was activated."""
    rollout.begin()
    activated(database, "m@1.0.0")
    rollout.look()
    assert serves(slot) is None
    assert slot.state is WorkerState.LOADING


def test_a_look_that_is_late_takes_nothing_back(settings, slot, loader, database):
    """Who read what was active before is held up; the model that was activated meanwhile stays wanted."""
    has_read, may_go_on = threading.Event(), threading.Event()

    class Held(Database):
        """The first who has read is held up."""

        @contextmanager
        def read(self):
            with super().read() as session:
                yield session
            if not has_read.is_set():
                has_read.set()
                assert may_go_on.wait(60)

    held = Held(settings.database)
    activated(database, "m@1.0.0")
    rollout = Rollout(settings.model_copy(update={"engine": "openvino"}), held, slot, loader)
    late, prompt = (threading.Thread(target=rollout.look) for _ in range(2))
    late.start()
    assert has_read.wait(60)
    activated(database, "m@2.0.0")
    prompt.start()
    prompt.join(0.5)
    may_go_on.set()
    for thread in (late, prompt):
        thread.join(60)
    assert slot.wanted == Wanted("m@2.0.0")
    held.close()


def test_a_model_that_does_not_load_keeps_the_worker_waiting(rollout, slot, loader, database, clock):
    """It is tried again after a while, not at each look, and what was loaded classifies nothing meanwhile."""
    rollout.begin()
    loader.broken.add("m@1.0.0")
    activated(database, "m@1.0.0")
    for _ in range(3):
        rollout.follow()
    assert loader.asked == [None, "m@1.0.0"]
    assert (slot.state, slot.trouble) == (WorkerState.WAITING, "m@1.0.0 does not load")
    assert serves(slot) is None
    loader.broken.clear()
    clock.now += 9
    rollout.follow()
    assert slot.state is WorkerState.WAITING
    clock.now += 1
    rollout.follow()
    assert serves(slot) == "m@1.0.0"


def test_a_rollback_to_what_is_loaded_costs_nothing(rollout, slot, loader, database):
    """The engine of before is there still."""
    activated(database, "m@1.0.0")
    rollout.begin()
    loader.broken.add("m@2.0.0")
    activated(database, "m@2.0.0")
    rollout.follow()
    assert slot.state is WorkerState.WAITING
    activated(database, "m@1.0.0")
    rollout.follow()
    assert serves(slot) == "m@1.0.0"
    assert loader.asked == ["m@1.0.0", "m@2.0.0"]


def test_another_activation_does_not_wait_for_the_next_try(rollout, slot, loader, database):
    """A bundle that is mended under a new version is loaded at once."""
    rollout.begin()
    loader.broken.add("m@1.0.0")
    for version in ("m@1.0.0", "m@2.0.0"):
        activated(database, version)
        rollout.follow()
    assert serves(slot) == "m@2.0.0"


def test_a_defect_in_loading_is_trouble_too(rollout, slot, loader, database):
    """Whatever is raised, the worker waits, says so, and lives."""
    rollout.begin()
    loader.broken, loader.error = {"m@1.0.0"}, MemoryError
    activated(database, "m@1.0.0")
    rollout.follow()
    assert slot.state is WorkerState.WAITING
    assert "MemoryError" in (slot.trouble or "")


def test_a_worker_that_starts_with_a_broken_activation_waits(rollout, slot, loader, database):
    """It does not serve something else, and does not end: it goes on when the model loads."""
    activated(database, "m@1.0.0")
    loader.broken.add("m@1.0.0")
    rollout.begin()
    assert (slot.state, slot.current) == (WorkerState.WAITING, None)


def test_a_worker_that_starts_without_an_activation_and_a_model_ends(rollout, loader):
    """As it always did: whoever started it sees why."""
    loader.broken.add(None)
    with pytest.raises(EngineError):
        rollout.begin()


def test_a_worker_that_starts_without_its_database_loads_when_it_answers(settings, slot, loader, tmp_path):
    """Which model is active is not known before; guessing might serve the wrong one."""
    database = Database(f"sqlite:///{tmp_path / 'late.db'}")
    rollout = Rollout(settings.model_copy(update={"engine": "openvino"}), database, slot, loader)
    rollout.begin()
    assert slot.state is WorkerState.WAITING
    with pytest.raises(OperationalError):
        rollout.follow()
    database.migrate()
    activated(database, "m@1.0.0")
    rollout.follow()
    assert (serves(slot), loader.asked) == ("m@1.0.0", ["m@1.0.0"])
    database.close()


def test_it_follows_by_itself_and_tells_of_each_change(rollout, slot, loader, database):
    """Within a part of a lease; a database that is away for a while stops it as little as a defect."""
    told: list[tuple[WorkerState, str | None]] = []
    is_over = threading.Event()

    def note() -> None:
        current = slot.current
        told.append((slot.state, current.model_version if current else None))
        if not is_over.is_set():
            is_over.set()
            raise OperationalError("UPDATE", {}, Exception("the server closes"))

    rollout.begin()
    rollout.start(note)
    try:
        wait_until(lambda: told, "it told what serves at the start")
        activated(database, "m@1.0.0")
        wait_until(lambda: serves(slot) == "m@1.0.0", "the model is swapped")
        wait_until(lambda: told[-1] == (WorkerState.SERVING, "m@1.0.0"), "it told of the swap")
    finally:
        rollout.stop()
    assert (WorkerState.LOADING, DEFAULT.model_version) in told
    assert not rollout._thread.is_alive()


def test_the_wait_between_two_tries_grows_with_what_a_try_costs(settings, database, slot, clock):
    """An engine whose build takes minutes and fails is not built all day."""
    tries: list[float] = []

    def build(*_: object) -> Serving:
        tries.append(clock.now)
        clock.now += 300
        raise EngineError("it cannot be built")

    rollout = Rollout(settings.model_copy(update={"engine": "openvino"}), database, slot, build)
    activated(database, "m@1.0.0")
    rollout.begin()
    for _ in range(100):
        clock.now += 10
        rollout.follow()
    assert tries == [100, 1000]


# With batches


def test_a_batch_is_left_to_others_while_nothing_may_serve(context, images_root):
    """Not claimed, not counted, and its turn is another's."""
    (images_root / "a.png").write_bytes(images.plain())
    with context.database.write() as session:
        mine = add_submission(session, images_root, listed_at=utc_now())
        batch_id = add_batch(session, mine, ["a.png"])
    context.slot.want(Wanted("m@1.0.0"))
    hasty = replace(context, settings=context.settings.model_copy(update={"lease_s": 0.1}))
    classify_batch(hasty, batch_id)
    (batch,) = batches_of(context.database, mine)
    assert (batch.state, batch.attempts, batch.sent_at) == (BatchState.QUEUED, 0, None)
    context.slot.want(None)
    classify_batch(context, batch_id)
    assert batches_of(context.database, mine)[0].state == BatchState.DONE


def test_a_batch_looks_for_another_model_before_it_is_claimed(context, images_root, loader):
    """An activation that the worker's thread has not seen yet counts all the same."""
    (images_root / "a.png").write_bytes(images.plain())
    with context.database.write() as session:
        mine = add_submission(session, images_root, listed_at=utc_now())
        batch_id = add_batch(session, mine, ["a.png"])
    settings = context.settings.model_copy(update={"engine": "openvino", "lease_s": 0.1})
    following = Rollout(settings, context.database, context.slot, loader)
    hasty = replace(context, settings=settings, rollout=following)
    activated(context.database, "m@1.0.0")
    classify_batch(hasty, batch_id)
    assert batches_of(context.database, mine)[0].state == BatchState.QUEUED
    following.follow()
    classify_batch(hasty, batch_id)
    assert batches_of(context.database, mine)[0].state == BatchState.DONE
    with context.database.read() as session:
        assert session.exec(select(Result.model_version)).all() == ["m@1.0.0"]


def test_a_batch_in_hand_ends_with_the_model_that_it_began_with(context, images_root, loader):
    """Its results, its decisions and what it looks up are that model's, although another serves by then."""
    for number in range(4):
        (images_root / f"{number}.png").write_bytes(images.plain(number))
    with context.database.write() as session:
        mine = add_submission(session, images_root, listed_at=utc_now())
        batch_id = add_batch(session, mine, [f"{number}.png" for number in range(4)])

    class SwappingEngine(FakeEngine):
        """While it computes, another model comes to serve."""

        best_batch = 1

        def classify(self, pixels):
            slot.want(Wanted("m@2.0.0"))
            slot.put(serving_of(Wanted("m@2.0.0")))
            return super().classify(pixels)

    slot = Slot(serving_of(Wanted("m@1.0.0"), SwappingEngine()))
    classify_batch(replace(context, slot=slot), batch_id)
    with context.database.read() as session:
        assert set(session.exec(select(Result.model_version)).all()) == {"m@1.0.0"}
    assert serves(slot) == "m@2.0.0"
    slot.close()


# Presence


def workers(context) -> list[tuple[str, str, str | None, str | None]]:
    with context.database.read() as session:
        return [(w.state, w.model_version, w.wanted, w.detail) for w in read_workers(session)]


def test_a_worker_says_what_it_serves_and_why_it_waits(context):
    """At once where that changes, and not again before a lease is over; at its end the row is gone."""
    presence = Presence(context)
    presence.say()
    assert workers(context) == [("serving", "fake@0.0.0", None, None)]
    context.slot.want(Wanted("m@1.0.0"))
    context.slot.note_trouble(Wanted("m@1.0.0"), "it is not there")
    presence.say()
    assert workers(context) == [("waiting", "fake@0.0.0", "m@1.0.0", "it is not there")]
    context.stop.ask(60)
    presence.say()
    assert workers(context)[0][0] == "stopping"
    presence.end()
    presence.say()
    assert workers(context) == []


def test_a_worker_is_heard_once_a_lease(context, monkeypatch):
    """One small write, not one a beat."""
    presence = Presence(context)
    presence.say()
    writes: list[object] = []
    monkeypatch.setattr("worker.presence.note_presence", lambda *row: writes.append(row))
    presence.say()
    assert writes == []
    presence._said_at -= context.settings.lease_s
    presence.say()
    assert len(writes) == 1
