"""Handing in folders, following them, ending them."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis
from sqlmodel import select

from core.bundle import NOTICE
from core.database import Database
from core.lanes import CONTROL_QUEUE, Lane
from core.paths import path_to_text
from core.settings import Settings
from core.states import BatchState, ItemState, SubmissionState
from core.tables import Audit, Item, Submission, utc_now
from tests.integration.api.server import Api, add_batch, add_items, add_submission, running


def _wait_for_message(settings: Settings) -> None:
    client = Redis.from_url(settings.redis_url)
    deadline = time.monotonic() + 20
    while client.llen(CONTROL_QUEUE) == 0:
        assert time.monotonic() < deadline, "no message reached the broker"
        time.sleep(0.01)


def test_folder_is_recorded_and_announced(each_api: Api, images_root: Path) -> None:
    """A folder below a root gets 202 with an address, a row, an audit entry, and a message with its id."""
    answer = each_api.http.post("/v1/submissions", json={"folder": str(images_root), "lane": "urgent"})
    assert answer.status_code == 202
    body = answer.json()
    assert answer.headers["location"] == f"/v1/submissions/{body['id']}"
    assert each_api.http.get(answer.headers["location"]).json()["id"] == body["id"]
    assert (body["state"], body["lane"], body["listed"]) == ("accepted", "urgent", False)
    with each_api.database.read() as session:
        row = session.get(Submission, body["id"])
        assert row is not None
        assert (row.folder, row.source) == (str(images_root), "folder")
        assert [(entry.action, entry.subject) for entry in session.exec(select(Audit))] == [
            ("submission.create", body["id"])
        ]
    _wait_for_message(each_api.settings)


def test_folder_of_many_files_is_not_looked_into(api: Api, images_root: Path) -> None:
    """The answer costs the same for a folder that cannot even be listed, so the size of a folder cannot matter."""
    for number in range(2000):
        (images_root / str(number)).touch()
    images_root.chmod(0o111)
    try:
        started = time.perf_counter()
        answer = api.http.post("/v1/submissions", json={"folder": str(images_root)})
        elapsed_s = time.perf_counter() - started
    finally:
        images_root.chmod(0o755)
    assert answer.status_code == 202
    # Asked for in the design as 0.2 s; the rest is for a busy test machine.
    assert elapsed_s < 2


def test_broker_that_is_away_refuses_nobody(api_settings: Settings, sqlite: Database, images_root: Path) -> None:
    """Without a broker the submission is recorded all the same; the reconciler will announce it."""
    settings = api_settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with running(settings, sqlite) as api:
        answer = api.http.post("/v1/submissions", json={"folder": str(images_root)})
        assert answer.status_code == 202
        assert api.http.get(answer.headers["location"]).json()["state"] == "accepted"


@pytest.mark.parametrize(
    ("make", "status", "reason"),
    [
        (lambda root: str(root / "missing"), 404, "folder_missing"),
        (lambda root: str(root / "file"), 404, "folder_missing"),
        (lambda root: str(root / ("a" * 300)), 404, "folder_missing"),
        (lambda root: str(root.parent), 403, "folder_not_allowed"),
        (lambda root: f"{root}/../", 403, "folder_not_allowed"),
        (lambda root: f"{root}-sibling", 403, "folder_not_allowed"),
        (lambda root: str(root / "link-out"), 403, "folder_not_allowed"),
        (lambda root: "images", 403, "folder_not_allowed"),
        (lambda root: f"{root}\0", 403, "folder_not_allowed"),
        (lambda root: "", 422, "request_invalid"),
    ],
)
def test_folder_that_may_not_be_read_is_refused(
    api: Api, images_root: Path, make: object, status: int, reason: str
) -> None:
    """Missing folders, what lies outside the roots, links that leave them, relative paths and NUL are refused."""
    (images_root / "file").touch()
    (images_root / "link-out").symlink_to(images_root.parent)
    images_root.with_name(f"{images_root.name}-sibling").mkdir()
    answer = api.http.post("/v1/submissions", json={"folder": make(images_root)})  # type: ignore[operator]
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert set(answer.json()) == {"reason", "detail"}
    with api.database.read() as session:
        assert session.exec(select(Submission)).all() == []


def test_link_that_stays_below_the_root_is_followed(api: Api, images_root: Path) -> None:
    """A link to a folder below the root is that folder."""
    (images_root / "real").mkdir()
    (images_root / "link").symlink_to(images_root / "real")
    answer = api.http.post("/v1/submissions", json={"folder": str(images_root / "link")})
    assert answer.json()["folder"] == str(images_root / "real")


def test_folder_whose_name_is_not_utf8_can_be_named(api: Api, images_root: Path) -> None:
    """The exact text form of a path names any folder, and the answer shows it readably."""
    raw = os.fsencode(images_root) + b"/caf\xe9"
    os.mkdir(raw)
    answer = api.http.post("/v1/submissions", json={"folder": path_to_text(raw)})
    assert answer.status_code == 202
    assert answer.json()["folder"].endswith("/caf\\xe9")


def test_request_with_unknown_fields_or_lane_is_refused(api: Api, images_root: Path) -> None:
    """A misspelt field is no silent default, and a body that is no JSON is told so in the same shape."""
    for body in ({"folder": str(images_root), "lanes": "urgent"}, {"folder": str(images_root), "lane": "fast"}, {}):
        answer = api.http.post("/v1/submissions", json=body)
        assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")
    answer = api.http.post("/v1/submissions", content=b"{", headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["reason"]) == (422, "request_invalid")


def test_counts_are_sums_over_batches_without_split_ones(each_api: Api) -> None:
    """Outcomes of all batches but those that were split, whose halves count instead; the rest is pending."""
    submission_id = add_submission(each_api.database)
    add_batch(each_api.database, submission_id, images=100, benign=50, malignant=30, uncertain=15, failed=4, skipped=1)
    add_batch(each_api.database, submission_id, images=100, state=BatchState.SPLIT, failed=100)
    add_batch(each_api.database, submission_id, images=50, state=BatchState.RUNNING)
    add_batch(each_api.database, submission_id, images=50, state=BatchState.QUEUED, failed=2)
    add_batch(each_api.database, add_submission(each_api.database), images=9, benign=9)
    add_items(
        each_api.database,
        submission_id,
        [
            {"path": "1", "state": ItemState.FAILED, "reason": "corrupt"},
            {"path": "2", "state": ItemState.FAILED, "reason": "corrupt"},
            {"path": "3", "state": ItemState.SKIPPED, "reason": "sidecar_file"},
            {"path": "4", "decision": "benign", "probability": 0.1},
        ],
    )
    body = each_api.http.get(f"/v1/submissions/{submission_id}").json()
    assert body["counts"] == {
        "total": 200,
        "pending": 98,
        "benign": 50,
        "malignant": 30,
        "uncertain": 15,
        "failed": 6,
        "skipped": 1,
    }
    assert body["failures"] == {"corrupt": 2, "sidecar_file": 1}
    assert body["notice"] == NOTICE


def test_rate_and_eta_come_from_batches_that_ended_of_late(each_api: Api) -> None:
    """100 images in 10 s and 1,000 left mean 10 images/s and 100 s; batches of yesterday do not count."""
    submission_id = add_submission(each_api.database)
    add_batch(each_api.database, submission_id, images=100, benign=100)
    add_batch(each_api.database, submission_id, images=1000, state=BatchState.QUEUED)
    old = utc_now() - timedelta(days=1)
    add_batch(each_api.database, submission_id, images=10**6, benign=10**6, started_at=old, finished_at=old)
    body = each_api.http.get(f"/v1/submissions/{submission_id}").json()
    assert body["images_per_s"] == pytest.approx(10, rel=0.2)
    assert body["eta_s"] == pytest.approx(100, rel=0.2)


def test_eta_is_unknown_until_all_images_are_known(each_api: Api) -> None:
    """While the folder is listed there is a rate but no end in sight."""
    submission_id = add_submission(each_api.database, state=SubmissionState.LISTING)
    add_batch(each_api.database, submission_id, images=100, benign=100)
    add_batch(each_api.database, submission_id, images=100, state=BatchState.QUEUED)
    body = each_api.http.get(f"/v1/submissions/{submission_id}").json()
    assert body["images_per_s"] > 0
    assert body["eta_s"] is None


def test_ended_submission_tells_its_speed_on_the_whole(each_api: Api) -> None:
    """From the first claim to the last close, however long ago, and nothing is left to wait for."""
    then = utc_now() - timedelta(days=3)
    submission_id = add_submission(each_api.database, state=SubmissionState.DONE, finished_at=then)
    for second in (0, 10):
        moment = then + timedelta(seconds=second)
        add_batch(
            each_api.database,
            submission_id,
            images=100,
            malignant=100,
            started_at=moment,
            finished_at=moment + timedelta(seconds=10),
        )
    body = each_api.http.get(f"/v1/submissions/{submission_id}").json()
    assert body["images_per_s"] == pytest.approx(10)
    assert body["eta_s"] is None


def test_pages_of_submissions_are_stable_while_new_ones_come(each_api: Api) -> None:
    """Every submission of the start is seen once, newest first, though others are added between two pages."""
    known = [add_submission(each_api.database) for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        page = each_api.http.get("/v1/submissions", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [entry["id"] for entry in page["submissions"]]
        add_submission(each_api.database)
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == sorted(known, reverse=True)


def test_list_is_filtered_by_state_and_lane(each_api: Api) -> None:
    """Both filters hold at once, and counts belong to their submission."""
    wanted = add_submission(each_api.database, lane=Lane.URGENT)
    add_submission(each_api.database, lane=Lane.BULK)
    add_submission(each_api.database, lane=Lane.URGENT, state=SubmissionState.DONE)
    add_batch(each_api.database, wanted, images=5, benign=2)
    page = each_api.http.get("/v1/submissions", params={"state": "running", "lane": "urgent"}).json()
    assert [(entry["id"], entry["counts"]["total"]) for entry in page["submissions"]] == [(wanted, 5)]


def test_cancel_skips_what_no_worker_holds(each_api: Api) -> None:
    """Queued images are skipped with a reason, the audit knows, and a second cancel says it is over (409)."""
    submission_id = add_submission(each_api.database)
    batch_id = add_batch(each_api.database, submission_id, images=1, state=BatchState.QUEUED)
    with each_api.database.write() as session:
        session.add(Item(submission_id=submission_id, batch_id=batch_id, path="a"))
    answer = each_api.http.delete(f"/v1/submissions/{submission_id}")
    assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
    assert answer.json()["counts"]["skipped"] == 1
    assert answer.json()["failures"] == {"cancelled": 1}
    again = each_api.http.delete(f"/v1/submissions/{submission_id}")
    assert (again.status_code, again.json()["reason"]) == (409, "already_ended")
    with each_api.database.read() as session:
        assert [entry.action for entry in session.exec(select(Audit))] == ["submission.cancel"]


@pytest.mark.parametrize("submission_id", ["0" * 32, "nope", "%00", "a%00b", "..", "é" * 20])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_submission_is_not_found(each_api: Api, method: str, submission_id: str) -> None:
    """Ids that were never made are 404 on every database, whatever characters they hold."""
    answer = each_api.http.request(method, f"/v1/submissions/{submission_id}")
    assert answer.status_code in {404, 405}
    assert answer.json()["reason"] in {"not_found", "method_not_allowed"}
