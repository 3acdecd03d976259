"""Scans over HTTP: beginning one, what it counts, what it waits for, and ending it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlmodel import select

from core.archive_tables import Scan
from core.bundle import NOTICE
from core.errors import Reason
from core.states import SubmissionState
from core.tables import Submission, utc_now
from tests.integration.api.server import Api, audited


@pytest.fixture
def archive(each_api: Api) -> Api:
    """An API with the archive "north"."""
    answer = each_api.http.post("/v1/archives", json={"name": "north", "root": str(each_api.settings.roots[0])})
    assert answer.status_code == 201
    return each_api


def _submission(api: Api, scan: dict[str, object]) -> Submission:
    with api.database.read() as session:
        return session.get_one(Submission, scan["submission_id"])


def test_a_scan_begins_now(archive: Api) -> None:
    """202 with its address; it is a submission in the archive's lane, and workers are told of it."""
    answer = archive.http.post("/v1/archives/north/scans")
    assert answer.status_code == 202
    scan = answer.json()
    assert (scan["archive"], scan["state"], scan["asked_by"], scan["notice"]) == ("north", "running", "api", NOTICE)
    assert archive.http.get(answer.headers["Location"]).json() == scan
    submission = _submission(archive, scan)
    assert (submission.source, submission.lane, submission.submitter) == ("archive", "nightly", "api")
    assert ("api", "scan.create", scan["id"]) in audited(archive.database)


def test_two_scans_of_an_archive_never_run_at_once(archive: Api) -> None:
    """Of those who ask at the same moment one gets a scan, and the others its id."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: archive.http.post("/v1/archives/north/scans"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    (begun,) = (answer.json() for answer in answers if answer.status_code == 202)
    for refused in (answer.json() for answer in answers if answer.status_code == 409):
        assert refused["reason"] == "scan_running"
        assert begun["id"] in refused["detail"]
    with archive.database.read() as session:
        assert len(session.exec(select(Submission)).all()) == 1


def test_missing_files_may_be_accepted(archive: Api) -> None:
    """Whoever cleaned up says so; otherwise nobody did."""
    scan = archive.http.post("/v1/archives/north/scans", json={"accept_missing": True}).json()
    assert scan["accepts_missing"] is True
    answer = archive.http.post("/v1/archives/north/scans", json={"accept": True})
    assert answer.status_code == 422


def test_what_a_scan_waits_for_is_said(archive: Api) -> None:
    """It is its submission that waits, for its window for instance; a scan that goes on waits for nothing."""
    scan = archive.http.post("/v1/archives/north/scans").json()
    assert scan["waits_until"] is None
    until = utc_now() + timedelta(minutes=5)
    with archive.database.write() as session:
        submission = session.get_one(Submission, scan["submission_id"])
        submission.retry_at, submission.reason = until, Reason.OUTSIDE_WINDOW
    shown = archive.http.get(f"/v1/scans/{scan['id']}").json()
    assert (shown["reason"], shown["waits_until"][:19]) == ("outside_window", until.isoformat()[:19])
    listed = archive.http.get("/v1/archives").json()["archives"][0]["last_scan"]
    assert listed["reason"] == "outside_window"


def test_scans_are_listed_newest_first_page_by_page(archive: Api) -> None:
    """A scan that begins meanwhile does not move the pages that follow."""
    ids = []
    for _ in range(3):
        scan = archive.http.post("/v1/archives/north/scans").json()
        ids.insert(0, scan["id"])
        _end(archive, scan)
    first = archive.http.get("/v1/archives/north/scans", params={"limit": 2}).json()
    assert [scan["id"] for scan in first["scans"]] == ids[:2]
    archive.http.post("/v1/archives/north/scans")
    rest = archive.http.get("/v1/archives/north/scans", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([scan["id"] for scan in rest["scans"]], rest["next_cursor"]) == (ids[2:], None)


def _end(api: Api, scan: dict[str, object]) -> None:
    with api.database.write() as session:
        session.get_one(Scan, scan["id"]).state = "done"
        session.get_one(Submission, scan["submission_id"]).state = SubmissionState.CANCELLED


def test_a_scan_is_ended_with_its_submission(archive: Api) -> None:
    """Whoever ends it is noted; ending it twice is told."""
    scan = archive.http.post("/v1/archives/north/scans").json()
    answer = archive.http.delete(f"/v1/scans/{scan['id']}")
    assert answer.status_code == 200
    assert _submission(archive, scan).state == SubmissionState.CANCELLED
    assert ("api", "scan.cancel", scan["id"]) in audited(archive.database)
    again = archive.http.delete(f"/v1/scans/{scan['id']}")
    assert (again.status_code, again.json()["reason"]) == (409, "already_ended")


def test_what_is_not_there(api: Api) -> None:
    """A scan, or an archive to scan."""
    for method, path in (
        ("GET", "/v1/scans/nothing"),
        ("DELETE", "/v1/scans/" + "0" * 32),
        ("POST", "/v1/archives/nothing/scans"),
        ("GET", "/v1/archives/nothing/scans"),
    ):
        answer = api.http.request(method, path)
        assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")
