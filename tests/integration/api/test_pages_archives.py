"""The pages of archives: what is scanned when, what was found, and scanning now."""

from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlmodel import select

from core.access import Scope
from core.archive_tables import Archive, Scan
from core.database import Database
from core.keys import make_key
from core.settings import Settings
from core.states import ScanState, SubmissionState
from core.tables import utc_now
from tests.integration.api.server import Api, add_items, add_submission, audited, running
from tests.integration.api.visits import Visit


def _add_archive(database: Database, scans: int = 1, **values: object) -> str:
    """Record an archive and scans of it that are done; the archive's id."""
    fields = {"name": "north", "root": "/images/north", "schedule": "0 22 * * *", "time_zone": "Europe/Berlin"} | values
    with database.write() as session:
        archive = Archive(**fields)
        session.add(archive)
    for number in range(scans):
        submission_id = add_submission(database, source="archive", state=SubmissionState.DONE)
        begun = utc_now() - timedelta(days=scans - number)
        with database.write() as session:
            session.add(
                Scan(
                    archive_id=archive.id,
                    submission_id=submission_id,
                    asked_by="schedule",
                    state=ScanState.DONE,
                    started_at=begun,
                    finished_at=begun + timedelta(minutes=7),
                    seen=48_210 + number,
                    new=17,
                )
            )
    return archive.id


@pytest.mark.browser
def test_archives_lead_to_their_scans_and_those_to_reports(api: Api, visit: Visit) -> None:
    """Schedule, last scan and its counts; then every scan, its images and its report."""
    _add_archive(api.database, scans=2)
    visit.open("/archives")
    row = visit.text("tbody tr")
    for part in ("/images/north", "0 22 * * *", "Europe/Berlin", "48,211", "17", "done"):
        assert part in row, part
    visit.page.get_by_role("link", name="north").click()
    assert visit.page.locator("tbody tr").count() == 2
    assert "7 min" in visit.text("tbody tr")
    visit.page.get_by_role("link", name="report").first.click()
    assert "Scan of north" in visit.text("h1")


@pytest.mark.browser
def test_scan_now_begins_a_scan(api: Api, visit: Visit) -> None:
    """By a button; it is recorded with who asked, and the button waits for the scan's end."""
    _add_archive(api.database, scans=0)
    visit.open("/archives/north")
    assert "It was not scanned yet" in visit.text()
    visit.page.get_by_label("count missing files as deleted").check()
    visit.page.get_by_role("button", name="Scan now").click()
    visit.page.wait_for_selector("tbody .state.running")
    assert visit.page.get_by_role("button", name="Scan now").is_disabled()
    with api.database.read() as session:
        (scan,) = session.exec(select(Scan)).all()
    assert (scan.asked_by, scan.accepts_missing) == ("api", True)
    assert ("api", "scan.create", scan.id) in audited(api.database)


def test_scan_that_may_not_begin_is_refused_with_a_page(api_settings: Settings, sqlite: Database) -> None:
    """One runs already (409), the scope is missing (403), or the form is not from our page (403)."""
    _add_archive(sqlite, scans=0)
    with sqlite.write() as session:
        _, key = make_key(session, "reader", {Scope.READ}, made_by="test")
    with running(api_settings.model_copy(update={"api_token": SecretStr("token")}), sqlite) as api:
        me = ("anna", "token")
        csrf = api.http.get("/archives/north", auth=me).text.split('name="csrf" value="')[-1].split('"')[0]
        begun = api.http.post("/archives/north/scans", auth=me, data={"csrf": csrf})
        assert (begun.status_code, begun.headers["location"]) == (303, "/archives/north")
        again = api.http.post("/archives/north/scans", auth=me, data={"csrf": csrf})
        assert (again.status_code, "a scan of the archive runs" in again.text) == (409, True)
        stale = api.http.post("/archives/north/scans", auth=me)
        assert (stale.status_code, "this form is stale" in stale.text) == (403, True)
        reader = {"Authorization": f"Bearer {key}"}
        assert "that needs the scope submit" in api.http.get("/archives/north", headers=reader).text
        refused = api.http.post("/archives/north/scans", headers=reader, data={"csrf": csrf})
        assert (refused.status_code, "lacks the scope submit" in refused.text) == (403, True)
        assert api.http.get("/archives/none", auth=me).status_code == 404


def test_scans_come_in_pages(api: Api) -> None:
    """Newest first; the next page goes on where this one ends."""
    _add_archive(api.database, scans=27)
    first = api.http.get("/archives/north").text
    assert first.count("/report.html") == 25
    cursor = first.split("?cursor=")[1].split('"')[0]
    assert api.http.get(f"/archives/north?cursor={cursor}").text.count("/report.html") == 2


def test_archive_leads_to_what_needs_review_of_it(api: Api) -> None:
    """The number is of its scans' images only, and the list names where each comes from."""
    archive_id = _add_archive(api.database, scans=1)
    with api.database.read() as session:
        scanned = session.exec(select(Scan.submission_id).where(Scan.archive_id == archive_id)).one()
    malignant: dict[str, object] = {"decision": "malignant", "probability": 0.9}
    add_items(api.database, scanned, [malignant])
    add_items(api.database, add_submission(api.database), [malignant] * 2, first=10)
    assert '<a href="/reviews?archive=north">1</a>' in api.http.get("/archives/north").text
    listed = api.http.get("/reviews?archive=north").text
    assert listed.count("/picture/small") == 1
    assert '<a href="/archives/north">north</a>' in listed
    assert api.http.get("/reviews").text.count("/picture/small") == 3
    assert api.http.get("/reviews?archive=none").status_code == 404
