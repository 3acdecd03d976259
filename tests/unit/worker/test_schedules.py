"""Scans begin when they are due, once, and nothing of them runs outside their window."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import col, select

from core.archive_tables import Archive, Scan
from core.errors import Reason
from core.scans import BY_SCHEDULE
from core.schedule import next_fire
from core.states import BatchState, SubmissionState
from core.tables import Submission, utc_now
from core.transitions import LONGEST_WAIT
from tests.assets.rows import batches_of, submission_of
from tests.unit.worker.scanning.conftest import House
from worker.classify import classify_batch
from worker.intake import take_in
from worker.reconcile import reconcile
from worker.schedules import begin_due_scans, keep_windows

NIGHTLY = "0 22 * * *"


def window(*, is_open: bool) -> dict[str, str]:
    """A window of two hours around now, or twelve hours away from it."""
    middle = datetime.now(UTC) + timedelta(hours=0 if is_open else 12)
    start, stop = (middle + timedelta(hours=hours) for hours in (-1, 1))
    return {"window_start": start.strftime("%H:%M"), "window_stop": stop.strftime("%H:%M")}


@pytest.fixture
def open_house(context, images_root):
    return lambda **definition: House(context, images_root, **({"schedule": NIGHTLY} | definition))


def change(house, **values) -> None:
    with house.context.database.write() as session:
        archive = session.get_one(Archive, house.archive_id)
        for name, value in values.items():
            setattr(archive, name, value)
        session.add(archive)


def next_at(house) -> datetime | None:
    with house.context.database.read() as session:
        return session.get_one(Archive, house.archive_id).next_at


def scans(house) -> list[Scan]:
    with house.context.database.read() as session:
        return list(session.exec(select(Scan).order_by(col(Scan.id))))


def test_a_scan_begins_when_it_is_due_and_once(open_house):
    """Also where two look at once, and where many fires were missed while nothing ran."""
    house = open_house(next_at=utc_now() - timedelta(days=9))
    begin_due_scans(house.context)
    begin_due_scans(house.context)
    (scan,) = scans(house)
    assert scan.asked_by == BY_SCHEDULE
    assert house.submission_of(scan.id).submitter == "schedule:slides"
    assert next_at(house) == next_fire(NIGHTLY, "UTC", utc_now())


def test_a_scan_that_still_runs_is_not_begun_again(open_house):
    """The night is skipped, and the next one is not."""
    house = open_house(next_at=utc_now() - timedelta(minutes=1))
    house.begin()
    begin_due_scans(house.context)
    assert len(scans(house)) == 1
    assert next_at(house) > utc_now()


@pytest.mark.parametrize("wrong", [None, timedelta(days=400)], ids=["never-computed", "clock-was-ahead"])
def test_a_time_that_cannot_be_right_is_computed_anew(open_house, wrong):
    """A clock that was ahead must not silence an archive for a year; nothing begins because of it."""
    house = open_house(next_at=wrong and utc_now() + wrong)
    begin_due_scans(house.context)
    assert next_at(house) == next_fire(NIGHTLY, "UTC", utc_now())
    assert scans(house) == []


@pytest.mark.parametrize("definition", [{"enabled": False}, {"schedule": None}], ids=["off", "no-schedule"])
def test_what_has_no_schedule_that_counts_begins_nothing(open_house, definition):
    """A time that is left over means nothing."""
    house = open_house(next_at=utc_now() - timedelta(hours=1), **definition)
    begin_due_scans(house.context)
    assert scans(house) == []


def test_outside_its_window_a_scheduled_scan_waits(open_house):
    """It is parked without being given up, for as long as the window is closed, and goes on when it opens."""
    house = open_house(**window(is_open=False))
    house.write("a.png")
    scan_id = house.begin(BY_SCHEDULE)
    submission_id = house.scan_of(scan_id).submission_id
    for _ in range(2):
        reconcile(house.context)
        waiting = submission_of(house.context.database, submission_id)
        assert (waiting.state, waiting.reason) == (SubmissionState.PARKED, Reason.OUTSIDE_WINDOW)
        assert waiting.parked_at is None
        assert utc_now() < waiting.retry_at < utc_now() + LONGEST_WAIT
        # As if the wait were over.
        with house.context.database.write() as session:
            session.get_one(Submission, submission_id).retry_at = utc_now() - timedelta(seconds=1)
    change(house, **window(is_open=True))
    reconcile(house.context)
    assert house.submission_of(scan_id).state == SubmissionState.ACCEPTED
    assert house.work(scan_id).new == 1


def test_a_window_that_closes_stops_what_runs(open_house):
    """Listed images get no turn until it opens; a worker that holds the listing loses it."""
    house = open_house(**window(is_open=True))
    house.write("a.png")
    scan_id = house.begin(BY_SCHEDULE)
    submission_id = house.scan_of(scan_id).submission_id
    take_in(house.context, submission_id)
    keep_windows(house.context)
    assert house.submission_of(scan_id).state == SubmissionState.RUNNING
    change(house, **window(is_open=False))
    keep_windows(house.context)
    assert house.submission_of(scan_id).state == SubmissionState.PARKED
    (batch,) = batches_of(house.context.database, submission_id)
    classify_batch(house.context, batch.id)
    assert batches_of(house.context.database, submission_id)[0].state == BatchState.QUEUED
    change(house, window_start=None, window_stop=None)
    keep_windows(house.context)
    assert house.submission_of(scan_id).state == SubmissionState.RUNNING


def test_what_a_person_asks_for_does_not_wait(open_house):
    """Who asks by day wants to see it by day."""
    house = open_house(**window(is_open=False))
    house.write("a.png")
    scan_id = house.begin("doctor")
    keep_windows(house.context)
    assert house.work(scan_id).state == "done"


def test_another_model_than_the_archives_does_not_classify(open_house):
    """The scan waits until the right one serves, and is not given up."""
    house = open_house(model="other@1.0.0")
    house.write("a.png")
    scan_id = house.begin()
    house.work(scan_id)
    waiting = house.submission_of(scan_id)
    assert (waiting.state, waiting.reason, waiting.parked_at) == (SubmissionState.PARKED, Reason.MODEL_AWAY, None)
    assert waiting.retry_at > utc_now()
    (batch,) = batches_of(house.context.database, waiting.id)
    assert (batch.state, batch.attempts) == (BatchState.QUEUED, 0)
    with house.context.database.write() as session:
        session.get_one(Submission, waiting.id).retry_at = utc_now()
    reconcile(house.context)
    with house.context.database.write() as session:
        session.get_one(Submission, waiting.id).model = house.context.slot.current.model_version
    classify_batch(house.context, batch.id)
    ended = house.submission_of(scan_id)
    assert (ended.state, ended.tries, ended.reason) == (SubmissionState.DONE, 0, None)
