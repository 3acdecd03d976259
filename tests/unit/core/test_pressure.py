"""Intake slows down before the disk or the queues are full, stops when they are, and says why."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

import core.pressure
from core.errors import Reason
from core.pressure import Gauge, Level, free_bytes, judge, measure_pressure
from core.settings import Settings
from core.states import BatchState
from tests.assets.rows import add_batch, add_submission

MIB = 2**20
ROOM = 10**12


@pytest.fixture
def limits(tmp_path) -> Settings:
    """100 MiB must stay free, so that 125 are scarce; 100 images may wait, so that more than 80 are many."""
    return Settings(data_dir=tmp_path, min_free_bytes=100 * MIB, max_waiting_images=100)


@pytest.mark.parametrize(
    ("free", "waiting", "level"),
    [
        (ROOM, 0, Level.OPEN),
        (125 * MIB, 80, Level.OPEN),
        (125 * MIB - 1, 0, Level.SLOW),
        (100 * MIB, 0, Level.SLOW),
        (100 * MIB - 1, 0, Level.STOPPED),
        (0, 0, Level.STOPPED),
        (ROOM, 81, Level.SLOW),
        (ROOM, 99, Level.SLOW),
        (ROOM, 100, Level.STOPPED),
        (ROOM, 10**9, Level.STOPPED),
        (100 * MIB, 99, Level.SLOW),
        (0, 10**9, Level.STOPPED),
    ],
)
def test_intake_slows_down_and_stops(limits, free, waiting, level):
    """At four fifths of a limit it pauses between batches, at the limit it takes nothing in."""
    pressure = judge(free, waiting, limits)
    assert pressure.level == level
    assert (pressure.free_bytes, pressure.waiting_images) == (free, waiting)
    assert (pressure.reason is None) == (pressure.detail is None) == (level == Level.OPEN)


@pytest.mark.parametrize("disk", list(Level))
@pytest.mark.parametrize("queue", list(Level))
def test_disk_and_queues_are_judged_apart(limits, disk, queue):
    """Urgent work does not wait for queues; intake as a whole does what the worse of both asks for."""
    free = {Level.OPEN: ROOM, Level.SLOW: 110 * MIB, Level.STOPPED: 0}[disk]
    waiting = {Level.OPEN: 0, Level.SLOW: 90, Level.STOPPED: 100}[queue]
    pressure = judge(free, waiting, limits)
    assert (pressure.disk, pressure.queue) == (disk, queue)
    worse = [level for level in (Level.STOPPED, Level.SLOW, Level.OPEN) if level in (disk, queue)]
    assert pressure.level == worse[0]


@pytest.mark.parametrize("free", [125 * MIB - 1, 0])
def test_a_full_disk_says_so(limits, free):
    """In MiB, with the limit."""
    pressure = judge(free, 0, limits)
    assert pressure.reason == Reason.DISK_LOW
    assert f"{free // MIB} MiB are free" in pressure.detail
    assert "below 100 MiB" in pressure.detail


@pytest.mark.parametrize("waiting", [81, 100])
def test_full_queues_say_so(limits, waiting):
    """In images, with the limit."""
    pressure = judge(ROOM, waiting, limits)
    assert pressure.reason == Reason.QUEUE_FULL
    assert f"{waiting} images wait" in pressure.detail
    assert "at 100 listing stops" in pressure.detail


def test_what_stops_intake_is_named_before_what_slows_it(limits):
    """The disk is only scarce, the queues are full: whoever reads why nothing goes on must read of the queues."""
    pressure = judge(110 * MIB, 100, limits)
    assert (pressure.level, pressure.reason) == (Level.STOPPED, Reason.QUEUE_FULL)


def test_a_full_disk_is_named_before_full_queues(limits):
    """Nobody may write on it, however urgent."""
    pressure = judge(0, 100, limits)
    assert (pressure.level, pressure.reason) == (Level.STOPPED, Reason.DISK_LOW)


def test_without_a_limit_the_disk_stops_nothing(limits):
    """Zero bytes are always free."""
    assert judge(0, 0, limits.model_copy(update={"min_free_bytes": 0})).level == Level.OPEN


def test_images_that_wait_for_a_worker_are_summed(database, limits):
    """Of all lanes, by what batches hold; what runs or has ended waits no more."""
    with database.read() as session:
        assert measure_pressure(session, limits).waiting_images == 0
    with database.write() as session:
        mine = add_submission(session)
        for state in BatchState:
            add_batch(session, mine, [], images=10_000, state=state, lane="urgent")
        add_batch(session, mine, [], images=500, sent_at=None)
    with database.read() as session:
        pressure = measure_pressure(session, limits)
    assert pressure.waiting_images == 10_500
    assert isinstance(pressure.waiting_images, int)
    assert (pressure.level, pressure.reason) == (Level.STOPPED, Reason.QUEUE_FULL)


def test_the_disk_of_the_data_folder_is_measured(database, limits):
    """With a limit that no disk can keep, it is full."""
    with database.read() as session:
        assert measure_pressure(session, limits).level == Level.OPEN
        full = measure_pressure(session, limits.model_copy(update={"min_free_bytes": 2**80}))
    assert (full.level, full.reason) == (Level.STOPPED, Reason.DISK_LOW)
    assert full.free_bytes == pytest.approx(free_bytes(limits.data_dir), rel=0.2)


def test_free_is_what_we_may_write(tmp_path):
    """Blocks that are kept for root are not counted. Others write on the disk meanwhile."""
    status = os.statvfs(tmp_path)
    assert free_bytes(tmp_path) == pytest.approx(status.f_bavail * status.f_frsize, rel=0.2)


@pytest.mark.parametrize("below", ["data", "data/of/mine"])
def test_a_folder_that_does_not_exist_yet_has_its_parents_disk(tmp_path, below):
    """The first start asks before anything is made; and asking makes nothing."""
    assert free_bytes(tmp_path / below) == pytest.approx(free_bytes(tmp_path), rel=0.2)
    assert list(tmp_path.iterdir()) == []


def test_every_folder_is_on_some_disk():
    """At worst on that of the root."""
    assert free_bytes(Path("/nowhere/at/all")) == pytest.approx(free_bytes(Path("/")), rel=0.2)


def test_a_disk_that_does_not_answer_has_no_room():
    """Nothing is taken in that might not find a place; no error either, for whoever asks has other work."""
    assert free_bytes(Path("/" + "x" * 300)) == 0


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns."""
    turned = SimpleNamespace(now=0.5)
    monkeypatch.setattr(core.pressure, "time", SimpleNamespace(monotonic=lambda: turned.now))
    return turned


def test_a_gauge_asks_at_most_once_a_second(database, limits, clock):
    """Who asks for each batch gets the pressure of the last second; a fresh gauge knows nothing old."""
    gauge = Gauge()

    def waiting() -> int:
        return gauge.pressure(database, limits).waiting_images

    def add(images: int) -> None:
        with database.write() as session:
            add_batch(session, add_submission(session), [], images=images)

    add(1)
    assert waiting() == 1
    add(2)
    clock.now += 0.9
    assert waiting() == 1
    assert Gauge().pressure(database, limits).waiting_images == 3
    clock.now += 0.2
    assert waiting() == 3
    add(4)
    clock.now += 0.9
    assert waiting() == 3
    clock.now += 0.2
    assert waiting() == 7
