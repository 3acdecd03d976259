"""Pages in a real Chromium: no errors, no foreign requests, and what they show is true."""

import re
from datetime import timedelta

import pytest

from core.archive_tables import Archive, Delivery, Scan
from core.bundle import NOTICE
from core.database import Database
from core.serving_tables import ModelActivation, WorkerPresence
from core.settings import Settings
from core.states import BatchState, ScanState
from core.tables import utc_now
from tests.integration.api.pictures import add_night
from tests.integration.api.server import Api, add_batch, add_items, add_parked, add_submission, running
from tests.integration.api.visits import Visit


@pytest.mark.browser
def test_overview_shows_lanes_submissions_and_model(api: Api, visit: Visit) -> None:
    """Every lane, the newest submissions by name, the serving model, and the notice."""
    add_night(api)
    visit.open("/")
    text = visit.text()
    for part in ("urgent", "bulk", "nightly", "/images/night <b>&", "resnet50 1.10.0", NOTICE):
        assert part in text
    assert visit.page.locator("svg.bar").first.get_attribute("aria-label").startswith("3 of 10 images")


@pytest.mark.browser
def test_overview_without_anything_says_how_to_begin(visit: Visit) -> None:
    """An empty installation is no empty page."""
    visit.open("/")
    assert "Nothing was handed in yet" in visit.text()


@pytest.mark.browser
def test_overview_shows_paused_lanes_and_parked_submissions(api: Api, visit: Visit) -> None:
    """Who paused a lane and how it goes on; what is parked, why, and when it is tried again, however old it is."""
    parked_id = add_parked(api.database, folder="/images/away <b>")
    for _ in range(15):
        add_submission(api.database)
    api.http.post("/v1/lanes/nightly/pause")
    visit.open("/")
    card = visit.page.locator("li.card", has_text="nightly").inner_text()
    assert "paused by api at" in card
    assert "histobatch lanes resume nightly" in card
    row = visit.page.locator("section", has_text="Waiting for storage").locator("tbody tr").inner_text()
    for part in ("/images/away <b>", "parked", "storage_away", "the worker sees no such folder", "UTC"):
        assert part in row
    visit.page.get_by_role("link", name="/images/away <b>").click()
    visit.page.wait_for_url(f"**/submissions/{parked_id}")


@pytest.mark.browser
def test_overview_follows_a_pause_by_itself(api: Api, visit: Visit) -> None:
    """What changes no submission is shown, too, without a reload."""
    visit.open("/")
    assert "Waiting for storage" not in visit.text()
    assert "Intake" not in visit.text()
    visit.page.evaluate("window.same = true")
    api.http.post("/v1/lanes/bulk/pause")
    visit.page.wait_for_selector("li.card .state.paused", timeout=60_000)
    assert "The lane bulk is paused" in visit.text(".faults")
    assert visit.page.evaluate("window.same") is True


def test_overview_shows_workers_model_and_what_needs_review(api: Api) -> None:
    """Who serves what since when, who waits and why, what is left to do, and how much someone must look at."""
    now = utc_now()
    with api.database.write() as session:
        for name, state, seen_s in (("ws1:7", "serving", 2), ("ws2:7", "waiting", 2), ("ws3:7", "serving", 300)):
            session.add(
                WorkerPresence(
                    name=name,
                    state=state,
                    detail="no bundle of it here" if state == "waiting" else None,
                    engine="openvino-int8",
                    model_version="resnet50@1.9.0",
                    started_at=now - timedelta(hours=2),
                    seen_at=now - timedelta(seconds=seen_s),
                )
            )
        session.add(ModelActivation(who="karin", model_version="resnet50@1.9.0", at=now - timedelta(days=2)))
    images = [{"decision": "malignant", "probability": 0.9}] * 3 + [{"decision": "uncertain", "probability": 0.5}] * 2
    submission_id = add_submission(api.database)
    add_items(api.database, submission_id, images)
    add_batch(api.database, submission_id, images=600, finished_at=now)
    add_batch(api.database, submission_id, images=1200, state=BatchState.QUEUED)
    text = re.sub(r"<[^>]+>|\s+", " ", api.http.get("/").text.replace("<wbr>", ""))
    text = re.sub(r" +", " ", text)
    for part in (
        "ws1:7 serving openvino-int8",
        "ws2:7 waits no bundle of it here",
        "ws3:7 away",
        "resnet50 1.9.0",
        "by karin",
        "3 malignant",
        "2 uncertain",
        "1,200 images about 2 min at the present speed",
        "10.0 images/s",
    ):
        assert part in text, part


def test_overview_names_what_someone_should_look_after(api: Api) -> None:
    """No worker while images wait, an archive whose last scan failed, reports that nobody took; each once."""
    submission_id = add_submission(api.database)
    add_batch(api.database, submission_id, images=10, state=BatchState.QUEUED)
    with api.database.write() as session:
        archive = Archive(name="north", root="/images/north")
        session.add(archive)
        session.flush()
        failed = {"state": ScanState.FAILED, "reason": "storage_away", "detail": "the folder is empty"}
        scan = Scan(archive_id=archive.id, submission_id=submission_id, asked_by="schedule", **failed)
        session.add(scan)
        session.flush()
        session.add(Delivery(scan_id=scan.id, url="https://x", ended_at=utc_now()))
    text = api.http.get("/").text
    for part in (
        "No worker serves",
        "images wait, and nobody classifies them",
        "The last scan of north failed: storage_away",
        "1 reports could not be delivered",
    ):
        assert text.count(part) == 1, part


def test_overview_says_what_limits_intake(api_settings: Settings, sqlite: Database) -> None:
    """The level, the reason and a sentence, where there is no room or little."""
    add_batch(sqlite, add_submission(sqlite), images=10, state=BatchState.QUEUED)
    for limits, said in (
        ({"min_free_bytes": 2**60}, "Intake is stopped: disk_low"),
        ({"max_waiting_images": 11}, "Intake is slow: queue_full"),
    ):
        with running(api_settings.model_copy(update=limits), sqlite) as api:
            text = api.http.get("/").text
        assert said in text
        assert "at 11 listing stops" in text or "MiB are free" in text


@pytest.mark.browser
def test_documentation_works_without_the_internet(visit: Visit) -> None:
    """The browsable documentation shows our routes with scripts from this server alone."""
    visit.open("/docs")
    visit.page.wait_for_selector('[data-path="/v1/submissions/upload"]', timeout=30_000)
