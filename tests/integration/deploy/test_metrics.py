"""/metrics tells what alerts, dashboards and the scaler of Kubernetes ask for, and it is so."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine, event

from core.archive_tables import Archive, Delivery, Scan
from core.audit import record
from core.bundle import read_manifest
from core.database import Database
from core.errors import Reason
from core.serving_tables import ModelActivation, WorkerPresence
from core.settings import PROJECT
from core.states import ScanState, SubmissionState
from core.tables import utc_now
from tests.integration.api.server import Api, add_parked, add_submission

DAY = timedelta(days=1)
# What Prometheus itself says of a scrape is not among them.
READERS = ("prometheus/alerts.yml", "grafana/dashboards/*.json", "kubernetes/**/*.yaml")


def _scrape(api: Api) -> dict[tuple[str, ...], float]:
    """All samples: name and labels' values, to value."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(api.http.get("/metrics").text)
        for sample in family.samples
    }


def _add_worker(database: Database, name: str, **values: object) -> None:
    fields = {"engine": "openvino-int8", "model_version": "a@1"} | values
    with database.write() as session:
        session.add(WorkerPresence(name=name, **fields))


def _add_archive(database: Database, name: str, **values: object) -> str:
    archive = Archive(name=name, root=f"/images/{name}", **values)
    with database.write() as session:
        session.add(archive)
    return archive.id


def _add_scan(database: Database, archive_id: str, state: ScanState, ago: timedelta) -> str:
    begun = utc_now() - ago
    scan = Scan(
        archive_id=archive_id,
        submission_id=add_submission(database, source="archive", state=SubmissionState.DONE),
        asked_by="schedule",
        state=state,
        started_at=begun,
        finished_at=None if state == ScanState.RUNNING else begun + timedelta(hours=1),
    )
    with database.write() as session:
        session.add(scan)
    return scan.id


def _readers() -> Iterator[Path]:
    for pattern in READERS:
        found = sorted((PROJECT / "deploy").glob(pattern))
        assert found, pattern
        yield from found


def test_every_metric_that_something_asks_for_is_there(each_api: Api) -> None:
    """A misspelt one would be an alert that is never raised, an empty panel, or workers that never come."""
    database = each_api.database
    _add_worker(database, "here")
    _add_scan(database, _add_archive(database, "a"), ScanState.DONE, DAY)
    exported = {name for name, *_ in _scrape(each_api)}
    for file in _readers():
        asked = set(re.findall(r"\bhistobatch_[a-z_]+\b", file.read_text()))
        assert asked <= exported, (file.name, sorted(asked - exported))


def test_workers_are_counted_by_what_they_do(each_api: Api) -> None:
    """One that was not heard for a minute is away, whatever it said last."""
    database = each_api.database
    _add_worker(database, "one")
    _add_worker(database, "two", engine="tensorrt", state="waiting")
    _add_worker(database, "three", seen_at=utc_now() - timedelta(minutes=2))
    found = _scrape(each_api)
    states = {state: found["histobatch_workers", state] for state in ("serving", "loading", "waiting", "away")}
    assert states == {"serving": 1, "loading": 0, "waiting": 1, "away": 1}
    assert found["histobatch_workers_serving", "openvino-int8", "a@1"] == 1
    assert not [name for name in found if name[:2] == ("histobatch_workers_serving", "tensorrt")]


def test_without_any_worker_there_are_none_rather_than_nothing(each_api: Api) -> None:
    """An alert compares with 0, and a series that is absent compares with nothing."""
    assert _scrape(each_api)["histobatch_workers", "serving"] == 0


def test_parked_submissions_are_told_by_reason(each_api: Api) -> None:
    """One that waits for its window is no trouble; one whose storage is away is."""
    add_parked(each_api.database)
    add_parked(each_api.database, reason=Reason.OUTSIDE_WINDOW)
    add_parked(each_api.database, reason=Reason.OUTSIDE_WINDOW)
    found = _scrape(each_api)
    assert found["histobatch_submissions_parked", "storage_away"] == 1
    assert found["histobatch_submissions_parked", "outside_window"] == 2


def test_the_last_scan_that_ended_says_how_an_archive_is(each_api: Api) -> None:
    """A scan that runs, or was cancelled, changes nothing of that; one that is switched off is nobody's worry."""
    database = each_api.database
    fine, faulty, off = (_add_archive(database, name, enabled=name != "off") for name in ("fine", "faulty", "off"))
    for archive_id, states in {
        fine: (ScanState.FAILED, ScanState.DONE, ScanState.RUNNING),
        faulty: (ScanState.DONE, ScanState.FAILED, ScanState.CANCELLED),
        off: (ScanState.FAILED,),
    }.items():
        for days, state in zip((3, 2, 1), states, strict=False):
            _add_scan(database, archive_id, state, days * DAY)
    found = _scrape(each_api)
    assert (found["histobatch_archive_scan_failed", "fine"], found["histobatch_archive_scan_failed", "faulty"]) == (
        0,
        1,
    )
    ended = (utc_now() - 2 * DAY + timedelta(hours=1)).timestamp()
    assert found["histobatch_archive_scan_ended_timestamp_seconds", "fine"] == pytest.approx(ended, abs=300)
    assert ("histobatch_archive_scan_failed", "off") not in found


def test_a_scan_is_overdue_from_when_its_schedule_should_have_begun_it(each_api: Api) -> None:
    """Measured from the last that is done, or from when the archive was made; without a schedule none ever is."""
    database = each_api.database
    created = utc_now() - 10 * DAY
    hourly = {"schedule": "0 * * * *", "created_at": created}
    _add_archive(database, "never", **hourly)
    _add_archive(database, "unscheduled", created_at=created)
    _add_archive(database, "wrong", schedule="0 0 * * *", time_zone="No/Where", created_at=created)
    done = _add_archive(database, "done", **hourly)
    _add_scan(database, done, ScanState.DONE, 3 * DAY)
    _add_scan(database, done, ScanState.FAILED, 1 * DAY)
    found = _scrape(each_api)
    overdue = {name: found["histobatch_archive_overdue_seconds", name] for name in ("never", "done")}
    assert overdue["never"] == pytest.approx(10 * 86400, abs=3700)
    assert overdue["done"] == pytest.approx(3 * 86400, abs=3700)
    assert found["histobatch_archive_overdue_seconds", "unscheduled"] == 0
    assert found["histobatch_archive_overdue_seconds", "wrong"] == 0


def _add_delivery(database: Database, archive_id: str, ended_at: datetime, delivered_at: datetime | None) -> None:
    scan_id = _add_scan(database, archive_id, ScanState.DONE, DAY)
    with database.write() as session:
        session.add(Delivery(scan_id=scan_id, url="https://x", ended_at=ended_at, delivered_at=delivered_at))


def test_webhooks_that_were_given_up_lately_are_counted(each_api: Api) -> None:
    """Those that arrived are not, and what was given up last week is history."""
    database, now = each_api.database, utc_now()
    archive_id = _add_archive(database, "a")
    _add_delivery(database, archive_id, now, None)
    _add_delivery(database, archive_id, now, now)
    _add_delivery(database, archive_id, now - 7 * DAY, None)
    assert _scrape(each_api)["histobatch_webhooks_given_up",] == 1


def test_the_audit_the_model_and_the_version_are_told(each_api: Api) -> None:
    """The model is the activated one, or else the newest."""
    version = re.search(r'^version = "(.*)"$', (PROJECT / "pyproject.toml").read_text(), re.MULTILINE)
    newest = read_manifest(sorted((PROJECT / "models").iterdir())[-1]).model_version
    found = _scrape(each_api)
    assert version is not None
    assert found["histobatch_build_info", version[1]] == 1
    assert found["histobatch_model_info", newest] == 1
    rows = found["histobatch_audit_rows",]
    with each_api.database.write() as session:
        record(session, "ada", "lane.pause", "bulk")
        session.add(ModelActivation(who="ada", model_version="b@2"))
    found = _scrape(each_api)
    assert found["histobatch_audit_rows",] == rows + 1
    assert found["histobatch_model_info", "b@2"] == 1
    assert ("histobatch_model_info", newest) not in found


def test_a_scrape_reads_no_rows_of_images(each_api: Api) -> None:
    """There are millions of them, and Prometheus asks four times a minute."""
    _scrape(each_api)
    asked: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        _scrape(each_api)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    tables = {table for statement in asked for table in re.findall(r"(?:FROM|JOIN) (\w+)", statement)}
    assert {"batch", "worker_presence", "scan"} <= tables
    assert not tables & {"item", "result", "audit"}
