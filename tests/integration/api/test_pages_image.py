"""The page of one image, and signing its result off."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from pydantic import SecretStr
from sqlmodel import select

from core.access import Scope
from core.archive_tables import Archive, Scan
from core.bundle import NOTICE
from core.database import Database
from core.keys import make_key
from core.review_tables import Review
from core.settings import Settings
from core.tables import Item, Result
from tests.integration.api.pictures import add_night, add_pictures, set_hashes, write_picture
from tests.integration.api.server import Api, add_batch, add_items, add_submission, audited, running
from tests.integration.api.visits import Visit

_TOKEN = "correct horse battery staple"


@pytest.fixture
def locked(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """An API that asks for a key or the token."""
    with running(api_settings.model_copy(update={"api_token": SecretStr(_TOKEN)}), sqlite) as opened:
        yield opened


@pytest.mark.browser
def test_image_page_shows_the_picture_the_rule_and_where_it_comes_from(
    api: Api, visit: Visit, images_root: Path
) -> None:
    """Picture, probability on the model's own scale, file, content, worker, archive, and what other models say."""
    submission_id, (item_id,) = add_pictures(api.database, images_root, 1, patient="14-1")
    batch_id = add_batch(api.database, submission_id, images=1, worker="ws3.hospital:9", engine="fake")
    with api.database.write() as session:
        item = session.get_one(Item, item_id)
        item.batch_id = batch_id
        result = session.get_one(Result, item.result_id)
        result.model_version, content = "resnet50@1.10.0", item.content_hash
        values = {"content_hash": content, "probability": 0.31, "decision": "benign", "engine": "e", "elapsed_ms": 1}
        session.add(Result(model_version="other@3.0.0", **values))
        archive = Archive(name="north", root=str(images_root))
        session.add(archive)
        session.flush()
        session.add(Scan(archive_id=archive.id, submission_id=submission_id, asked_by="schedule"))
        session.add_all((item, result))
    visit.open(f"/submissions/{submission_id}/items/{item_id}")
    assert visit.measure_pictures() == [384]
    text = visit.text()
    for part in ("malignant from 0.5", "uncertain from 0.4 to 0.6", "ws3.hospital:9", content, "north", "14-1", NOTICE):
        assert part in text, part
    assert visit.page.locator("svg.scale").get_attribute("aria-label") == "Probability of malignancy 0.900"
    assert "0.310" in visit.page.locator("section", has_text="What other models say").inner_text()


def test_preview_is_a_jpeg_within_its_bound(api: Api, images_root: Path) -> None:
    """Also of what no browser shows, in shape, and only of the content that was classified."""
    submission_id = add_submission(api.database, folder=str(images_root))
    image: dict[str, object] = {"path": "large.tif", "decision": "benign", "probability": 0.1}
    (item_id,) = add_items(api.database, submission_id, [image])
    content_hash = write_picture(images_root / "large.tif", 1, (2600, 100), "TIFF")
    set_hashes(api.database, {item_id: content_hash})
    for address in (
        f"/v1/submissions/{submission_id}/items/{item_id}/preview",
        f"/submissions/{submission_id}/items/{item_id}/picture/large",
    ):
        answer = api.http.get(address)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
        assert Image.open(io.BytesIO(answer.content)).size == (1280, 49)
    write_picture(images_root / "large.tif", 2)
    assert api.http.get(f"/v1/submissions/{submission_id}/items/{item_id}/preview").json()["reason"] == "read_failed"


def test_drawing_in_place_of_a_picture_holds_no_markup(api: Api, images_root: Path) -> None:
    """Why it cannot be shown stands in it as text."""
    submission_id, (item_id,) = add_pictures(api.database, images_root, 1)
    (images_root / "0.png").unlink()
    answer = api.http.get(f"/submissions/{submission_id}/items/{item_id}/picture/large")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml")
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert api.http.get(f"/submissions/{submission_id}/items/{item_id}/picture/huge").status_code == 422


def test_page_of_an_image_without_a_result_says_why(api: Api) -> None:
    """Reason and detail, no form, and no picture of what was never read."""
    submission_id = add_night(api)
    with api.database.read() as session:
        item_id = session.exec(select(Item.id).where(Item.reason == "corrupt")).one()
    text = api.http.get(f"/submissions/{submission_id}/items/{item_id}").text
    assert "it ends early" in text
    assert "the image was not read" in text
    assert "Sign off" not in text
    answer = api.http.post(f"/v1/submissions/{submission_id}/items/{item_id}/reviews", json={"verdict": "benign"})
    assert (answer.status_code, answer.json()["reason"]) == (409, "nothing_to_review")


@pytest.mark.browser
def test_review_from_the_list_to_the_next_image(api: Api, visit: Visit) -> None:
    """What is signed off leaves the list, is recorded once with its note, and leads to the next."""
    submission_id = add_submission(api.database, folder="/images/a")
    images: list[dict[str, object]] = [
        {"decision": "malignant", "probability": 0.9, "patient": "14-1"},
        {"decision": "uncertain", "probability": 0.5},
    ]
    add_items(api.database, submission_id, images)
    visit.open("/")
    visit.page.get_by_role("link", name="1 malignant").click()
    assert visit.page.locator(".sheet li").count() == 2
    visit.page.get_by_role("link", name="000001.png").click()
    visit.page.get_by_label("undecided").check()
    visit.page.get_by_label("Note").fill("blurred <b>\nsecond line")
    visit.page.get_by_role("button", name="Sign off").click()
    visit.page.wait_for_url("**signed=true**")
    assert "Recorded: undecided, by api" in visit.text()
    assert "blurred <b>\nsecond line" in visit.text(".reviews")
    visit.page.get_by_role("link", name="Next image that needs review").click()
    assert visit.text("h1") == "000000.png"
    visit.open("/reviews?patient=14-1&kind=malignant")
    assert visit.page.locator(".sheet li").count() == 1
    visit.open("/reviews?kind=uncertain")
    assert "Nothing needs review here" in visit.text()
    visit.open("/reviews/signed")
    assert "second line" in visit.text("tbody")
    with api.database.read() as session:
        (review,) = session.exec(select(Review)).all()
    assert (review.verdict, review.said, review.note) == ("undecided", "uncertain", "blurred <b>\nsecond line")
    assert ("api", "review.create", str(review.id)) in audited(api.database)


def test_signing_off_needs_the_scope_and_a_form_of_ours(locked: Api) -> None:
    """Who may only read sees no form and gets a page with 403; a form without the page's value is refused, too."""
    submission_id = add_submission(locked.database)
    (item_id,) = add_items(locked.database, submission_id, [{"decision": "uncertain", "probability": 0.5}])
    address = f"/submissions/{submission_id}/items/{item_id}"
    with locked.database.write() as session:
        _, key = make_key(session, "reader", {Scope.READ}, made_by="test")
    reader = {"Authorization": f"Bearer {key}"}
    assert "<form" not in locked.http.get(address, headers=reader).text.split("<main")[1]
    answer = locked.http.post(address, headers=reader, data={"verdict": "benign"})
    assert answer.status_code == 403
    assert "reader lacks the scope review" in answer.text
    assert answer.headers["content-type"].startswith("text/html")
    stale = locked.http.post(address, auth=("anna", _TOKEN), data={"verdict": "benign", "csrf": "0" * 64})
    assert (stale.status_code, "this form is stale" in stale.text) == (403, True)
    posted = locked.http.post(f"/v1{address}/reviews", headers=reader, json={"verdict": "benign"})
    assert (posted.status_code, posted.json()["reason"]) == (403, "scope_missing")
    with locked.database.read() as session:
        assert session.exec(select(Review)).all() == []


@pytest.mark.parametrize(
    "field", [{"verdict": "odd"}, {"verdict": "benign", "note": "x" * 2001}, {"note": "no verdict"}]
)
def test_form_with_something_wrong_records_nothing(locked: Api, field: dict[str, str]) -> None:
    """A page says what, and nothing is recorded."""
    submission_id = add_submission(locked.database)
    (item_id,) = add_items(locked.database, submission_id, [{"decision": "uncertain", "probability": 0.5}])
    address = f"/submissions/{submission_id}/items/{item_id}"
    page = locked.http.get(address, auth=("anna", _TOKEN)).text
    csrf = page.split('name="csrf" value="')[-1].split('"')[0]
    answer = locked.http.post(address, auth=("anna", _TOKEN), data={**field, "csrf": csrf})
    assert (answer.status_code, "That did not work" in answer.text) == (422, True)
    note = "line\r\n" * 300 + "y" * 500
    sent = locked.http.post(address, auth=("anna", _TOKEN), data={"verdict": "benign", "note": note, "csrf": csrf})
    assert sent.status_code == 303
    with locked.database.read() as session:
        (review,) = session.exec(select(Review)).all()
    assert (review.reviewer, review.note) == ("anna", "line\n" * 300 + "y" * 500)


def test_address_of_an_image_in_another_submission_shows_nothing(api: Api) -> None:
    """An image is found below its own submission only."""
    mine, other = add_submission(api.database), add_submission(api.database)
    (item_id,) = add_items(api.database, mine, [{"decision": "uncertain", "probability": 0.5}])
    for address in ("", "/picture/small", "/picture/large"):
        assert api.http.get(f"/submissions/{other}/items/{item_id}{address}").status_code == 404
    assert api.http.get(f"/v1/submissions/{other}/items/{item_id}/reviews").status_code == 404
