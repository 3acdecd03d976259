"""The pages of a submission: progress, images, patients and slides."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from core.bundle import NOTICE
from core.states import ItemState, SubmissionState
from core.tables import Batch, Item, Submission, utc_now
from tests.integration.api.pictures import add_night, add_pictures
from tests.integration.api.server import Api, add_batch, add_items, add_many_items, add_parked, add_submission
from tests.integration.api.visits import Visit


@pytest.mark.browser
def test_page_of_a_parked_submission_says_when_it_is_tried_again(api: Api, visit: Visit) -> None:
    """Why, when, and how to try now; once it runs again, that goes by itself."""
    submission_id = add_parked(api.database)
    visit.open(f"/submissions/{submission_id}")
    text = visit.text("[data-live=progress]")
    for part in ("parked", "storage_away", "the worker sees no such folder", "found so far"):
        assert part in text
    assert re.search(r"Next try at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", text)
    assert f"histobatch retry {submission_id}" in text
    api.http.post(f"/v1/submissions/{submission_id}/retry")
    visit.page.wait_for_selector(".state.accepted", timeout=60_000)
    assert "Next try" not in visit.text()


@pytest.mark.browser
def test_submission_page_shows_images_and_filters_them(api: Api, visit: Visit) -> None:
    """Names are text and never markup; a filter shows only its images; reasons lead to theirs."""
    submission_id = add_night(api)
    visit.open(f"/submissions/{submission_id}")
    text = visit.text("table")
    assert "a<script>alert(1)</script>.png" in text
    assert "two\\nlines.png" in text
    assert "0.930" in text
    visit.page.click("nav.filters >> text=malignant")
    assert visit.page.locator("tbody tr").count() == 1
    visit.open(f"/submissions/{submission_id}?reason=corrupt")
    assert "it ends early" in visit.text("table")
    assert visit.page.locator("tbody tr").count() == 1
    assert NOTICE in visit.text()


@pytest.mark.browser
@pytest.mark.parametrize("has_events", [True, False])
def test_large_submission_is_followed_and_shown_in_pages(api: Api, visit: Visit, has_events: bool) -> None:
    """Of 10,000 images, counts, bar and rows change without a reload, by events or else by asking, until the end.

    They come a hundred at a time, and the next page goes on where this one ends.
    """
    submission_id = add_submission(api.database)
    add_many_items(api.database, submission_id, 10_000, state=ItemState.PENDING)
    batch_id = add_batch(api.database, submission_id, images=10_000)
    if not has_events:
        visit.page.add_init_script("delete window.EventSource")
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    visit.open(f"/submissions/{submission_id}")
    assert visit.page.locator("tbody tr").count() == 100
    visit.page.evaluate("window.same = true")
    for benign in (2500, 5000):
        with api.database.write() as session:
            session.execute(update(Batch).where(Batch.id == batch_id).values(benign=benign))
            session.execute(
                update(Item).where(Item.path == "00000003.png").values(state=ItemState.DONE, decision="benign")
            )
        visit.page.wait_for_selector(f".outcomes .figure:text-is('{benign:,}')", timeout=60_000)
    visit.page.wait_for_selector("tbody .state.benign", timeout=60_000)
    with api.database.write() as session:
        session.execute(update(Batch).values(benign=10_000))
        session.execute(update(Submission).values(state=SubmissionState.DONE, finished_at=utc_now()))
    visit.page.wait_for_selector(".line .state.done", timeout=60_000)
    visit.page.wait_for_selector("main:not([data-every])", timeout=60_000)
    assert "100.0 % of 10,000 images" in visit.text("[data-live=progress]")
    # Said to those who do not see it; counts in between are not.
    assert visit.page.locator("#said").inner_text() == "done"
    assert visit.page.evaluate("window.same") is True
    assert any(url.endswith("/events") for url in asked) is has_events
    visit.page.click("text=Next page")
    assert "00000100.png" in visit.text("tbody tr:first-child")


@pytest.mark.browser
def test_pages_of_a_submission_work_without_scripts(api: Api, chromium: Any) -> None:
    """What it shows and where it leads needs no script."""
    submission_id = add_submission(api.database)
    add_many_items(api.database, submission_id, 250, decision="benign")
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{api.http.base_url}/submissions/{submission_id}")
    page.get_by_role("link", name="Next page").click()
    page.get_by_role("link", name="Next page").click()
    assert page.locator("tbody tr").count() == 50
    page.get_by_role("link", name="First page").click()
    page.get_by_role("link", name="00000000.png").click()
    assert page.get_by_role("heading", level=1).inner_text() == "00000000.png"
    context.close()


def test_submissions_come_in_pages(api: Api) -> None:
    """Newest first; the next page goes on where this one ends."""
    ids = [add_submission(api.database, folder=f"/images/{number}") for number in range(52)]
    first = api.http.get("/submissions").text
    assert [first.count(f"/submissions/{submission_id}") for submission_id in ids].count(1) == 50
    cursor = first.split("?cursor=")[1].split('"')[0]
    second = api.http.get(f"/submissions?cursor={cursor}").text
    assert second.count(">/<wbr>images/<wbr>") == 2
    assert api.http.get("/submissions?cursor=odd").status_code == 422


@pytest.mark.parametrize("address", ["", "/patients", "/slides", "/items/1", "/items/1/picture/small"])
def test_page_of_an_unknown_submission_says_so(api: Api, address: str) -> None:
    """A page for people, with 404."""
    answer = api.http.get(f"/submissions/{'0' * 32}{address}")
    assert answer.status_code == 404
    assert "there is no such submission" in answer.text
    assert NOTICE in answer.text


@pytest.mark.parametrize("query", ["show=odd", "show=failed&reason=%00", "cursor=0&reason='%3B--"])
def test_page_bears_odd_queries(api: Api, query: str) -> None:
    """What someone typed into the address shows nothing or all, and breaks nothing."""
    assert api.http.get(f"/submissions/{add_night(api)}?{query}").status_code == 200


@pytest.mark.browser
def test_submission_page_shows_pictures_unless_they_are_not_wanted(api: Api, visit: Visit, images_root: Path) -> None:
    """Each is drawn, one that is gone as a drawing that says so, and none is read where nobody wants them."""
    submission_id, ids = add_pictures(api.database, images_root, 3, patient="14-1", slide="14-1A", magnification="40")
    (images_root / "2.png").unlink()
    visit.open(f"/submissions/{submission_id}")
    assert "patient 14-1, slide 14-1A, 40X" in visit.text()
    assert visit.measure_pictures() == [192, 192, 192]
    gone = api.http.get(f"/submissions/{submission_id}/items/{ids[2]}/picture/small")
    assert (gone.headers["content-type"], gone.headers["x-reason"]) == ("image/svg+xml", "vanished")
    assert "No picture:" in gone.text
    visit.page.get_by_role("link", name="without pictures").click()
    assert visit.page.locator("img.picture").count() == 0
    assert "0.900" in visit.text("table")


@pytest.mark.browser
def test_patients_and_slides_lead_to_their_images(api: Api, visit: Visit) -> None:
    """Each group has its mean and its images; the link shows just these; unknown ones are not made a patient."""
    submission_id = add_submission(api.database)
    images: list[dict[str, object]] = [
        {"decision": "malignant", "probability": 0.9, "patient": "14-1", "slide": "14-1A"},
        {"decision": "uncertain", "probability": 0.5, "patient": "14-1", "slide": "14-1B"},
        {"decision": "benign", "probability": 0.1, "patient": "a&b", "slide": "c d"},
        {"decision": "benign", "probability": 0.1},
    ]
    add_items(api.database, submission_id, images)
    visit.open(f"/submissions/{submission_id}")
    visit.page.get_by_role("link", name="Patients").click()
    assert visit.page.locator("tbody tr").count() == 2
    assert "0.700" in visit.text("tbody tr:first-child")
    visit.page.get_by_role("link", name="Slides").click()
    assert visit.page.locator("tbody tr").count() == 3
    visit.page.get_by_role("link", name="c d").click()
    assert visit.page.locator("tbody tr").count() == 1
    assert "patient a&b, slide c d" in visit.text("tbody tr")
    visit.page.get_by_role("link", name="slide c d: take this filter away").click()
    visit.page.get_by_role("link", name="patient a&b: take this filter away").click()
    assert visit.page.locator("tbody tr").count() == 4


def test_patients_of_a_submission_without_names_are_not_summed_up(api: Api) -> None:
    """It says that nobody knows whose the images are."""
    submission_id = add_submission(api.database)
    add_items(api.database, submission_id, [{"decision": "benign", "probability": 0.1}])
    for view in ("patients", "slides"):
        assert "say whose they are" in api.http.get(f"/submissions/{submission_id}/{view}").text
    assert api.http.get(f"/submissions/{submission_id}/patients?cursor=odd").status_code == 422


@pytest.mark.browser
def test_submission_page_leads_to_its_report(api: Api, visit: Visit) -> None:
    """The link opens the report, and every download is there."""
    submission_id = add_night(api)
    visit.open(f"/submissions/{submission_id}")
    for name in ("CSV", "JSON Lines", "Parquet"):
        address = visit.page.get_by_role("link", name=name, exact=True).get_attribute("href")
        assert api.http.get(address).status_code == 200
    visit.page.get_by_role("link", name="so far").click()
    visit.page.wait_for_url("**/report.html")
    assert "Malignant: 1" in visit.text()
