"""Reports: true, bounded, and one file that a browser opens from the disk."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from core.archive_tables import Archive, Scan
from core.bundle import NOTICE
from core.database import Database
from core.states import ItemState, ScanState, SubmissionState
from core.tables import Item, Result, utc_now
from tests.assets.disk_pages import measure_colours, opened_from_disk
from tests.integration.api.pictures import add_pictures
from tests.integration.api.server import Api, add_batch, add_items, add_submission

_EVIL = "<script>alert(1)</script>"
_FAILED = {"state": ItemState.FAILED, "reason": "corrupt", "detail": "it ends early"}


def _image(path: str, decision: str, probability: float, **values: object) -> dict[str, object]:
    return {"path": path, "decision": decision, "probability": probability} | values


def _report(api: Api, address: str) -> dict[str, Any]:
    answer = api.http.get(f"/v1/{address}/report.json")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _point_to_result_of(database: Database, item_id: int, other: int) -> None:
    """Let an image have the result that another has: the same content."""
    with database.write() as session:
        result_id = session.get_one(Item, other).result_id
        session.execute(update(Item).where(Item.id == item_id).values(result_id=result_id))  # type: ignore[arg-type]


def test_report_says_what_came_of_a_submission(each_api: Api) -> None:
    """Counts, models, new malignant images first, uncertain ones, reasons with examples, patients, and the notice."""
    database = each_api.database
    (known,) = add_items(database, add_submission(database), [_image("old.png", "malignant", 0.99)], first=500)
    now = utc_now()
    submission_id = add_submission(
        database,
        state=SubmissionState.DONE,
        submitter="anna",
        created_at=now - timedelta(seconds=60),
        finished_at=now,
    )
    ids = add_items(
        database,
        submission_id,
        [
            _image("copy.png", "malignant", 0.99, patient="p2"),
            _image("b.png", "malignant", 0.8, patient="p1", slide="s", magnification="40"),
            _image("c.png", "malignant", 0.9, patient="p1"),
            _image("d.png", "uncertain", 0.5),
            _image("e.png", "benign", 0.1, patient="p3"),
            *({**_FAILED, "path": f"broken-{number}"} for number in range(12)),
            {"state": ItemState.SKIPPED, "reason": "system_file"},
        ],
    )
    _point_to_result_of(database, ids[0], known)
    add_batch(database, submission_id, images=18, malignant=3, uncertain=1, benign=1, failed=12, skipped=1)
    report = _report(each_api, f"submissions/{submission_id}")
    assert (report["notice"], report["state"], report["submitter"]) == (NOTICE, "done", "anna")
    assert (report["wall_s"], report["images_per_s"]) == (pytest.approx(60), pytest.approx(1.8))
    assert (report["counts"]["total"], report["counts"]["malignant"], report["counts"]["pending"]) == (18, 3, 0)
    assert report["models"] == [{"model_version": "resnet50@1.0.0", "images": 5}]
    positives = report["positives"]
    assert (positives["total"], positives["new"]) == (3, 2)
    assert [(image["path"], image["is_new"]) for image in positives["shown"]] == [
        ("c.png", True),
        ("b.png", True),
        ("copy.png", False),
    ]
    assert positives["shown"][1]["slide"] == "s"
    assert [image["path"] for image in report["uncertain"]["shown"]] == ["d.png"]
    assert [(group["reason"], group["total"], len(group["shown"])) for group in report["failures"]] == [
        ("corrupt", 12, 10),
        ("system_file", 1, 1),
    ]
    patients = report["malignant_patients"]
    assert [group["patient"] for group in patients["shown"]] == ["p2", "p1"]
    assert (patients["total"], patients["patients"], patients["without_patient"]) == (2, 3, 14)


def test_lists_are_bounded_and_say_how_many_there_are(each_api: Api) -> None:
    """100 of 150, the most probable."""
    submission_id = add_submission(each_api.database)
    images = [_image(f"{number}.png", "malignant", 0.6 + number / 1000) for number in range(150)]
    add_items(each_api.database, submission_id, images)
    add_batch(each_api.database, submission_id, images=150, malignant=150)
    positives = _report(each_api, f"submissions/{submission_id}")["positives"]
    assert (positives["total"], positives["new"], len(positives["shown"])) == (150, 150, 100)
    assert (positives["shown"][0]["path"], positives["shown"][-1]["path"]) == ("149.png", "50.png")
    page = each_api.http.get(f"/v1/submissions/{submission_id}/report.html").text
    assert "100 of 150 shown" in page


def _add_scan(database: Database, archive: Archive, images: list[dict[str, object]], first: int, **values: Any) -> str:
    counts = {"images": len(images), "malignant": sum(image.get("decision") == "malignant" for image in images)}
    submission_id = add_submission(database, source="archive", folder="/archive", state=SubmissionState.DONE)
    add_items(database, submission_id, images, first=first)
    add_batch(database, submission_id, benign=counts["images"] - counts["malignant"], **counts)
    scan = Scan(archive_id=archive.id, submission_id=submission_id, **({"asked_by": "schedule"} | values))
    with database.write() as session:
        session.add(scan)
    return scan.id


@pytest.fixture
def archive(each_api: Api) -> Archive:
    archive = Archive(name="north", root="/archive")
    with each_api.database.write() as session:
        session.add(archive)
    return archive


def test_scan_report_compares_with_the_scan_before(each_api: Api, archive: Archive) -> None:
    """Counts side by side, new positives, and changed files whose outcome changed; no file whose did not."""
    database = each_api.database
    done = {"state": ScanState.DONE}
    first_images = [_image(f"{n}.png", "benign", 0.1) for n in range(5)]
    first = _add_scan(database, archive, first_images, 0, seen=5, new=5, **done)
    # Between the two: "1.png" became malignant already, so that is what it was before.
    second = _add_scan(
        database, archive, [_image("1.png", "malignant", 0.9)], 100, seen=5, changed=1, previous_id=first, **done
    )
    third = _add_scan(
        database,
        archive,
        [
            _image("0.png", "malignant", 0.8),
            _image("1.png", "benign", 0.2),
            _image("2.png", "benign", 0.3),
            _image("new.png", "malignant", 0.7),
        ],
        200,
        seen=6,
        new=1,
        changed=4,
        unchanged=1,
        deleted=2,
        previous_id=second,
        **done,
    )
    report = _report(each_api, f"scans/{third}")
    assert report["notice"] == NOTICE
    assert (report["scan"]["archive"], report["scan"]["seen"], report["scan"]["deleted"]) == ("north", 6, 2)
    assert report["scan"]["counts"]["malignant"] == 2
    comparison = report["comparison"]
    assert (comparison["previous"]["id"], comparison["previous"]["counts"]["malignant"]) == (second, 1)
    assert comparison["new_positives"] == 2
    changed = comparison["changed_outcomes"]
    assert [(change["path"], change["before"], change["now"]) for change in changed["shown"]] == [
        ("0.png", "benign", "malignant"),
        ("1.png", "malignant", "benign"),
    ]
    assert changed["by_kind"] == {"benign → malignant": 1, "malignant → benign": 1}
    assert (changed["total"], changed["not_compared"]) == (2, 1)
    assert _report(each_api, f"scans/{first}")["comparison"] is None
    page = each_api.http.get(f"/v1/scans/{third}/report.html").text
    for part in (
        "Scan of north",
        "Scan before",
        "Changed files with another outcome: 2",
        "1 changed files were not found",
    ):
        assert part in page


def test_scan_that_ended_early_says_why(each_api: Api, archive: Archive) -> None:
    """The alarm stands on top of the page."""
    failed = {"state": ScanState.FAILED, "reason": "root_empty", "detail": "the root shows no file: is it mounted?"}
    scan_id = _add_scan(each_api.database, archive, [], 0, **failed)
    assert _report(each_api, f"scans/{scan_id}")["scan"]["reason"] == "root_empty"
    assert "is it mounted?" in each_api.http.get(f"/v1/scans/{scan_id}/report.html").text


@pytest.mark.parametrize("address", ["submissions/{}", "scans/{}", "scans/x", "submissions/x"])
@pytest.mark.parametrize("form", ["json", "html"])
def test_report_of_nothing_is_not_found(api: Api, address: str, form: str) -> None:
    """404 in the one shape of problems."""
    answer = api.http.get(f"/v1/{address.format('0' * 32)}/report.{form}")
    assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")


def test_unchanged_reports_are_not_sent_again(api: Api) -> None:
    """304 for both forms."""
    submission_id = add_submission(api.database, state=SubmissionState.DONE, finished_at=utc_now())
    for form in ("json", "html"):
        address = f"/v1/submissions/{submission_id}/report.{form}"
        tag = api.http.get(address).headers["etag"]
        assert api.http.get(address, headers={"If-None-Match": tag}).status_code == 304


def _add_hostile(api: Api, folder: Path) -> str:
    """Images with pictures, one whose file is gone, and names that would run as a script."""
    submission_id, _ = add_pictures(api.database, folder / _EVIL.replace("/", "|"), 3, patient=_EVIL)
    hostile = [
        _image(f"{_EVIL}.png", "uncertain", 0.5, patient=_EVIL),
        {**_FAILED, "path": f"'\"{_EVIL}&amp;", "detail": _EVIL},
    ]
    add_items(api.database, submission_id, hostile, first=50)
    add_batch(api.database, submission_id, images=5, malignant=3, uncertain=1, failed=1)
    with api.database.write() as session:
        session.execute(update(Result).values(model_version=_EVIL))
    return submission_id


def test_page_escapes_everything(api: Api, images_root: Path) -> None:
    """Names, patients, details and models come from outside."""
    page = api.http.get(f"/v1/submissions/{_add_hostile(api, images_root)}/report.html")
    assert "<script" not in page.text
    assert page.text.count("&lt;script&gt;") > 5
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-notice"] == NOTICE


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_opens_the_page_from_the_disk(
    chromium: Any, api: Api, images_root: Path, tmp_path: Path, scheme: str
) -> None:
    """No console error, no request but the file itself, pictures drawn, words for who cannot see them, no wide page."""
    file = tmp_path / "report.html"
    file.write_bytes(api.http.get(f"/v1/submissions/{_add_hostile(api, images_root)}/report.html").content)
    with opened_from_disk(chromium, file, scheme) as opened:
        pictures = opened.page.evaluate(
            "[...document.images].map(i => [i.complete && i.naturalWidth > 1, i.alt.length > 5])"
        )
        ink, paper = measure_colours(opened.page)
        wide = opened.is_wide()
        text = opened.page.inner_text("body")
    assert opened.errors == []
    assert [address for address in opened.requested if not address.startswith("data:")] == [file.as_uri()]
    assert pictures == [[True, True]] * 3
    assert not wide
    assert text.startswith(NOTICE)
    assert "No picture:" in text
    assert _EVIL in text
    assert (ink < paper) == (scheme == "light")


@pytest.mark.browser
def test_the_page_over_http_is_styled_and_prints(chromium: Any, api: Api, images_root: Path) -> None:
    """The server's own policy lets the page's style through; on paper it is dark on white."""
    address = f"{str(api.http.base_url).rstrip('/')}/v1/submissions/{_add_hostile(api, images_root)}/report.html"
    context = chromium.new_context(color_scheme="dark")
    page = context.new_page()
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.goto(address)
    notice = page.evaluate("getComputedStyle(document.querySelector('.notice')).fontWeight")
    page.emulate_media(media="print")
    ink, paper = measure_colours(page)
    context.close()
    assert errors == []
    assert notice == "600"
    assert (ink, paper) == (0, 255 * 3)
