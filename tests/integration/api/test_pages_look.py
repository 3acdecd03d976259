"""How all pages look and are used: contrast, keyboard, labels, headings, width, and the notice on each."""

from itertools import pairwise
from pathlib import Path

import pytest

from core.archive_tables import Archive, Scan
from core.bundle import NOTICE
from core.serving_tables import WorkerPresence
from core.states import ScanState, SubmissionState
from core.tables import utc_now
from tests.integration.api.pictures import add_night, add_pictures
from tests.integration.api.server import Api, add_items, add_parked, add_submission
from tests.integration.api.visits import Visit


@pytest.fixture
def addresses(api: Api, images_root: Path) -> dict[str, str]:
    """Every page by name, of a house in which something of each kind happened; names are as long as they come."""
    folder = images_root / "pathology-department-of-the-northern-district" / ("study" * 12)
    submission_id, ids = add_pictures(api.database, folder, 2, patient="14-1", slide="14-1A")
    review = {"verdict": "undecided", "note": "blurred " * 40}
    for _ in range(2):
        api.http.post(f"/v1/submissions/{submission_id}/items/{ids[1]}/reviews", json=review)
    night = add_night(api, first=20)
    add_items(api.database, night, [{"decision": "uncertain", "probability": 0.5, "path": "x" * 180}], first=10)
    parked = add_parked(api.database, folder="/images/" + "away" * 30)
    api.http.post("/v1/lanes/bulk/pause")
    scanned = add_submission(api.database, source="archive", state=SubmissionState.DONE)
    with api.database.write() as session:
        archive = Archive(name="north", root="/images/north" * 12, schedule="0 22 * * *", next_at=utc_now())
        session.add(archive)
        session.flush()
        failed = {"state": ScanState.FAILED, "reason": "storage_away", "finished_at": utc_now()}
        session.add(Scan(archive_id=archive.id, submission_id=scanned, asked_by="schedule", **failed))
        session.add(WorkerPresence(name="ws1.hospital.example:71", engine="openvino-int8", model_version="m@1.0.0"))
    return {
        "overview": "/",
        "submissions": "/submissions",
        "submission": f"/submissions/{submission_id}",
        "running": f"/submissions/{night}",
        "parked": f"/submissions/{parked}",
        "patients": f"/submissions/{submission_id}/patients",
        "slides": f"/submissions/{submission_id}/slides",
        "image": f"/submissions/{submission_id}/items/{ids[0]}",
        "reviewed": f"/submissions/{submission_id}/items/{ids[1]}?signed=true",
        "reviews": "/reviews?patient=14-1&kind=malignant",
        "signed": "/reviews/signed",
        "archives": "/archives",
        "archive": "/archives/north",
    }


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_in_both_schemes(visit: Visit, addresses: dict[str, str], scheme: str) -> None:
    """Every text reaches WCAG's 4.5 to 1 against its ground, on every page."""
    visit.page.emulate_media(color_scheme=scheme)
    for name, address in addresses.items():
        visit.open(address)
        ratios = visit.measure_contrast()
        assert len(ratios) > 10, name
        low = {what: round(ratio, 2) for what, ratio in ratios.items() if ratio < 4.5}
        assert low == {}, name


@pytest.mark.browser
def test_every_page_has_the_notice_landmarks_headings_and_labels(visit: Visit, addresses: dict[str, str]) -> None:
    """One main, one first heading, levels without gaps, a title of its own, and a name for whatever can be used."""
    titles = set()
    for name, address in addresses.items():
        visit.open(address)
        page = visit.page
        assert page.locator("[role=note]").inner_text() == NOTICE, name
        assert [page.locator(what).count() for what in ("main", "h1", "header", "nav[aria-label=Main]")] == [1, 1, 1, 1]
        levels = page.eval_on_selector_all("h1, h2, h3, h4", "all => all.map(one => Number(one.tagName[1]))")
        assert levels[0] == 1, name
        assert all(after - before <= 1 for before, after in pairwise(levels)), (name, levels)
        assert visit.find_unlabelled() == [], name
        ids = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
        assert len(ids) == len(set(ids)), name
        assert page.locator("html[lang=en]").count() == 1
        titles.add(page.title())
    assert len(titles) >= len(addresses) - 3


@pytest.mark.browser
def test_pages_fit_a_tablet(visit: Visit, addresses: dict[str, str]) -> None:
    """At 768 pixels no page scrolls sideways; wide tables do within themselves, and can be reached by keyboard."""
    visit.page.set_viewport_size({"width": 768, "height": 1024})
    for name, address in addresses.items():
        visit.open(address)
        assert visit.page.evaluate("() => document.documentElement.scrollWidth") <= 768, name
        regions = visit.page.locator(".scroll")
        assert regions.count() == visit.page.locator(".scroll[tabindex='0'][role=region]").count(), name


@pytest.mark.browser
def test_keyboard_reaches_the_form_and_goes_on(visit: Visit, addresses: dict[str, str]) -> None:
    """First the way past the navigation; then everything in reading order, each visibly focused; no trap."""
    visit.open(addresses["image"])
    order = visit.tab_through()
    assert order[0].startswith("a:Skip to content")
    assert [what for what in order if what.endswith("(unseen)")] == []
    names = [what.partition(":")[2] for what in order]
    positions = [names.index(name) for name in ("Overview", "verdict", "note", "Sign off")]
    assert positions == sorted(positions)
    assert len(order) < 60
    visit.open(addresses["image"])
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_selector("main:focus")
    visit.page.get_by_label("malignant").focus()
    visit.page.keyboard.press("Space")
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.type("seen")
    visit.page.keyboard.press("Tab")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_url("**signed=true**")
    assert "Recorded: malignant" in visit.text()


@pytest.mark.browser
def test_nothing_moves_for_who_wants_no_motion(visit: Visit, addresses: dict[str, str]) -> None:
    """Transitions are for those who did not ask to be spared."""
    durations = "() => [...document.querySelectorAll('*')].map(e => getComputedStyle(e).transitionDuration)"
    for motion, moves in (("no-preference", True), ("reduce", False)):
        visit.page.emulate_media(reduced_motion=motion)
        visit.open(addresses["reviews"])
        assert any(duration != "0s" for duration in visit.page.evaluate(durations)) is moves
