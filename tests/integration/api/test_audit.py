"""The audit knows who read and exported results, and /v1/audit shows it to admins."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import SecretStr
from sqlalchemy import text
from sqlmodel import col, select

from api.app import create_app
from api.reads import Reads
from core.access import ALL_SCOPES, Principal
from core.archive_definitions import ArchiveDefinition
from core.archives import create_archive
from core.audit import record
from core.audit_verification import verify_audit
from core.database import Database
from core.settings import Settings
from core.states import ScanState, SubmissionState
from core.tables import Audit
from tests.integration.api.pictures import add_pictures
from tests.integration.api.server import Api, add_items, add_submission, audited, running

ANNA = Principal("anna", ALL_SCOPES)
_TOKEN = "correct horse battery staple"


@pytest.fixture
def locked(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """An API that asks for a token, so that it knows names."""
    with running(api_settings.model_copy(update={"api_token": SecretStr(_TOKEN)}), sqlite) as opened:
        yield opened


def add_results(api: Api) -> tuple[str, int]:
    """Record a submission that is done, with three images; its id and that of an image."""
    submission_id = add_submission(api.database, state=SubmissionState.DONE)
    shared = {"patient": "Smith", "slide": "S1"}
    ids = add_items(
        api.database,
        submission_id,
        [
            {"probability": 0.9, "decision": "malignant", **shared},
            {"probability": 0.5, "decision": "uncertain", **shared},
            {"probability": 0.1, "decision": "benign", **shared},
        ],
    )
    return submission_id, ids[0]


def add_archive(api: Api, submission_id: str) -> str:
    """Record an archive and a scan of it; the scan's id."""
    from core.archive_tables import Scan

    with api.database.write() as session:
        definition = ArchiveDefinition.model_validate({"name": "north", "root": "/images/north"})
        archive = create_archive(session, definition, "anna")
        scan = Scan(archive_id=archive.id, submission_id=submission_id, asked_by="anna", state=ScanState.DONE)
        session.add(scan)
    return scan.id


def since(api: Api, before: int) -> list[tuple[str, str, str, dict[str, object]]]:
    """Rows behind a number: who, action, subject, detail."""
    with api.database.read() as session:
        rows = session.exec(select(Audit).where(col(Audit.number) > before).order_by(col(Audit.number)))
        return [(row.who, row.action, row.subject, json.loads(row.detail)) for row in rows]


READS = {
    "/v1/submissions/{submission_id}/items": "items",
    "/v1/items?patient=Smith": "search",
    "/v1/submissions/{submission_id}/patients": "patients",
    "/v1/submissions/{submission_id}/slides": "slides",
    "/v1/submissions/{submission_id}/report.json": "report",
    "/v1/submissions/{submission_id}/report.html": "report",
    "/v1/scans/{scan_id}/report.json": "report",
    "/v1/scans/{scan_id}/report.html": "report",
    "/v1/reviews/needed": "reviews needed",
    "/v1/submissions/{submission_id}/items/{item_id}/reviews": "reviews",
    "/submissions/{submission_id}": "page",
    "/submissions/{submission_id}/patients": "page",
    "/submissions/{submission_id}/slides": "page",
    "/submissions/{submission_id}/items/{item_id}": "page",
    "/reviews": "page",
}
EXPORTS = {
    "/v1/submissions/{submission_id}/results.csv": "csv",
    "/v1/submissions/{submission_id}/results.jsonl": "jsonl",
    "/v1/submissions/{submission_id}/results.parquet": "parquet",
    "/v1/submissions/{submission_id}/patients.csv": "patients.csv",
    "/v1/submissions/{submission_id}/slides.csv": "slides.csv",
}
ARCHIVES = {
    "/v1/archives/north/patients": ("archive.read", {"what": "patients"}),
    "/v1/archives/north/slides": ("archive.read", {"what": "slides"}),
    "/v1/archives/north/patients.csv": ("archive.export", {"format": "patients.csv", "filters": []}),
    "/v1/archives/north/slides.csv": ("archive.export", {"format": "slides.csv", "filters": []}),
}
# Shown only where a file or a review is; their own tests are below.
ELSEWHERE = {
    "/v1/submissions/{submission_id}/items/{item_id}/thumbnail",
    "/v1/submissions/{submission_id}/items/{item_id}/preview",
    "/submissions/{submission_id}/items/{item_id}/picture/{kind}",
    "/v1/results/{content_hash}",
    "/v1/reviews",
    "/reviews/signed",
    "/v1/audit",
}
# Progress, counts and definitions; nothing that a model said of an image.
NO_RESULTS = {
    "/",
    "/archives",
    "/archives/{name}",
    "/docs",
    "/docs/oauth2-redirect",
    "/live",
    "/login",
    "/metrics",
    "/openapi.json",
    "/ready",
    "/reviews/next",
    "/submissions",
    "/v1/archives",
    "/v1/archives/{name}",
    "/v1/archives/{name}/scans",
    "/v1/lanes",
    "/v1/models",
    "/v1/scans/{scan_id}",
    "/v1/status",
    "/v1/submissions",
    "/v1/submissions/{submission_id}",
    "/v1/submissions/{submission_id}/events",
    "/v1/workers",
}


def test_every_address_that_answers_is_known_here(api_settings: Settings) -> None:
    """A route that is added must be audited, or be named here as one that shows no results."""
    routes = {
        str(context.path)
        for context in iter_route_contexts(create_app(api_settings).routes)
        if isinstance(context.original_route, APIRoute) and "GET" in context.original_route.methods
    }
    archives = {path.replace("/north/", "/{name}/") for path in ARCHIVES}
    searched = {path.split("?")[0] for path in READS}
    assert routes - NO_RESULTS == searched | set(EXPORTS) | archives | ELSEWHERE


@pytest.mark.parametrize("path", READS)
def test_reading_leaves_one_row_an_hour(api: Api, path: str) -> None:
    """Before the answer; the same again, in the same hour, leaves none."""
    submission_id, item_id = add_results(api)
    scan_id = add_archive(api, submission_id) if "scan_id" in path else ""
    before = len(audited(api.database))
    address = path.format(submission_id=submission_id, item_id=item_id, scan_id=scan_id)
    for _ in range(2):
        assert api.http.get(address).status_code == 200
    assert since(api, before) == [("api", "results.read", submission_id, {"what": READS[path]})]


@pytest.mark.parametrize("path", EXPORTS)
def test_each_export_leaves_a_row(api: Api, path: str) -> None:
    """With its form and the names of its filters, never their values."""
    submission_id, _ = add_results(api)
    address = path.format(submission_id=submission_id)
    filtered = "results" in path
    for query in ("", "?patient=Smith&decision=benign" if filtered else ""):
        assert api.http.get(address + query).status_code == 200
    rows = [("api", "results.export", submission_id, {"format": EXPORTS[path], "filters": []}) for _ in range(2)]
    if filtered:
        rows[1][3]["filters"] = ["decision", "patient"]
    assert since(api, 0) == rows
    with api.database.read() as session:
        assert "Smith" not in repr(session.exec(select(Audit)).all())


@pytest.mark.parametrize("path", ARCHIVES)
def test_reading_of_an_archive_is_recorded_by_its_name(api: Api, path: str) -> None:
    """It is no submission; its images are of many."""
    submission_id, _ = add_results(api)
    add_archive(api, submission_id)
    before = len(audited(api.database))
    assert api.http.get(path).status_code == 200
    action, detail = ARCHIVES[path]
    assert since(api, before) == [("api", action, "north", detail)]


def test_the_results_of_a_content_are_recorded_by_its_hash(api: Api) -> None:
    """No submission is named there."""
    add_results(api)
    content_hash = f"{0:064x}"
    assert api.http.get(f"/v1/results/{content_hash}").status_code == 200
    assert since(api, 0) == [("api", "results.read", content_hash, {"what": "content"})]


@pytest.mark.parametrize("path", ["/v1{image}/thumbnail", "/v1{image}/preview", "{image}/picture/small"])
def test_pictures_are_reads_of_their_submission(api: Api, images_root: Path, path: str) -> None:
    """A page of a hundred leaves one row."""
    submission_id, ids = add_pictures(api.database, images_root / "case", 2)
    for item_id in ids:
        assert api.http.get(path.format(image=f"/submissions/{submission_id}/items/{item_id}")).status_code == 200
    assert since(api, 0) == [("api", "results.read", submission_id, {"what": "picture"})]


def test_what_was_signed_off_is_a_read(api: Api) -> None:
    """A review says what the model said."""
    submission_id, item_id = add_results(api)
    address = f"/v1/submissions/{submission_id}/items/{item_id}/reviews"
    assert api.http.post(address, json={"verdict": "malignant"}).status_code == 201
    before = len(audited(api.database))
    for path in ("/v1/reviews", "/reviews/signed"):
        assert api.http.get(path).status_code == 200
    assert since(api, before) == [("api", "results.read", submission_id, {"what": "reviews"})]


def test_what_is_refused_or_shows_no_results_leaves_no_row(api: Api) -> None:
    """Progress is asked for every second, and what is not there was not read."""
    submission_id, _ = add_results(api)
    for path in ("/v1/status", "/v1/submissions", f"/v1/submissions/{submission_id}", "/", "/metrics", "/v1/models"):
        assert api.http.get(path).status_code == 200
    for path in ("items", "report.json", "results.csv", "patients"):
        assert api.http.get(f"/v1/submissions/{'0' * 32}/{path}").status_code == 404
    assert since(api, 0) == []


def test_readers_are_told_apart(locked: Api) -> None:
    """Each name leaves a row of its own."""
    submission_id, _ = add_results(locked)
    for name in ("anna", "ben", "anna"):
        answer = locked.http.get(f"/v1/submissions/{submission_id}/items", auth=(name, _TOKEN))
        assert answer.status_code == 200
    assert [row[0] for row in since(locked, 0)] == ["anna", "ben"]


def test_a_page_of_a_search_names_every_submission_on_it(each_api: Api) -> None:
    """Whoever asks later who saw a submission's results finds that row, too; and the chain holds."""
    ids = {add_results(each_api)[0]}
    other = add_submission(each_api.database)
    add_items(each_api.database, other, [{"probability": 0.7, "decision": "malignant", "patient": "Smith"}], first=90)
    assert each_api.http.get("/v1/items?patient=Smith").status_code == 200
    assert {row[2] for row in since(each_api, 0)} == ids | {other}
    assert verify_audit(each_api.database).length == 2


def test_a_read_that_cannot_be_recorded_is_not_answered(api: Api) -> None:
    """503, as for everything that needs the database; nothing of the results is sent."""
    submission_id, _ = add_results(api)
    with api.database.write() as session:
        session.execute(text("ALTER TABLE audit_chain RENAME TO away"))
    try:
        for path in ("items", "results.csv"):
            answer = api.http.get(f"/v1/submissions/{submission_id}/{path}")
            assert answer.status_code == 503
            assert "malignant" not in answer.text
    finally:
        with api.database.write() as session:
            session.execute(text("ALTER TABLE away RENAME TO audit_chain"))
    assert api.http.get(f"/v1/submissions/{submission_id}/items").status_code == 200
    assert len(since(api, 0)) == 1


def test_a_read_is_recorded_again_after_an_hour(database: Database) -> None:
    """And what is remembered is bounded: what was not used for long is told again."""
    moment = [0.0]
    reads = Reads(database, clock=lambda: moment[0])

    def count() -> int:
        reads.tell(ANNA, "results.read", {"s"}, {})
        with database.read() as session:
            return len(session.exec(select(Audit.number)).all())

    assert (count(), count()) == (1, 1)
    moment[0] = 3599
    assert count() == 1
    moment[0] = 3600
    assert (count(), count()) == (2, 2)


def test_keys_of_one_name_are_told_apart(database: Database) -> None:
    """The row has the key's public part: the name may be given again."""
    reads = Reads(database)
    for key_id in ("k1", "k2", "k1"):
        reads.tell(Principal("lab", ALL_SCOPES, key_id), "results.read", {"s"}, {"what": "items"})
    with database.read() as session:
        details = [json.loads(detail) for detail in session.exec(select(Audit.detail).order_by(col(Audit.number)))]
    assert details == [{"what": "items", "key": "k1"}, {"what": "items", "key": "k2"}]


def test_what_is_remembered_is_bounded(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that walks through all submissions does not fill the memory."""
    monkeypatch.setattr("api.reads._REMEMBERED", 3)
    reads = Reads(database)
    for number in range(10):
        reads.tell(ANNA, "results.read", {f"s{number}"}, {})
    assert len(reads._told) == 3


def _numbers(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [row["number"] for row in answer.json()["rows"]]


def test_the_audit_is_shown_page_by_page(each_api: Api) -> None:
    """Newest first; rows that come meanwhile move no page. Who looks is recorded, once an hour."""
    for number in range(5):
        with each_api.database.write() as session:
            record(session, "anna", "submission.create", f"s{number}", {"lane": "urgent"})
    first = each_api.http.get("/v1/audit?limit=2")
    assert _numbers(first) == [5, 4]
    second = each_api.http.get("/v1/audit", params={"limit": 2, "cursor": first.json()["next_cursor"]})
    assert _numbers(second) == [3, 2]
    last = each_api.http.get("/v1/audit", params={"limit": 2, "cursor": second.json()["next_cursor"]})
    assert (_numbers(last), last.json()["next_cursor"]) == ([1], None)
    newest = each_api.http.get("/v1/audit?limit=1").json()["rows"][0]
    assert (newest["number"], newest["who"], newest["action"]) == (6, "api", "audit.read")
    assert second.json()["rows"][0]["detail"] == {"lane": "urgent"}
    assert "Research use only" in last.json()["notice"]


def test_the_audit_is_filtered(api: Api) -> None:
    """By who, action, subject and moment; all that are given hold."""
    with api.database.write() as session:
        for number in range(3):
            record(session, "anna", "submission.create", f"s{number}")
            record(session, "ben", "submission.cancel", f"s{number}")
    ask = api.http.get
    assert _numbers(ask("/v1/audit?who=anna")) == [5, 3, 1]
    assert _numbers(ask("/v1/audit?action=submission.cancel")) == [6, 4, 2]
    assert _numbers(ask("/v1/audit?subject=s1")) == [4, 3]
    assert _numbers(ask("/v1/audit?subject=s1&who=ben")) == [4]
    assert _numbers(ask("/v1/audit?who=anna&after=2100-01-01T00:00:00Z")) == []
    assert _numbers(ask("/v1/audit?who=anna&after=2020-01-01T00:00:00%2B05:00")) == [5, 3, 1]
    for wrong in ("after=2020-01-01T00:00:00", "cursor=x", "limit=0", "limit=1001", "who=%00"):
        assert ask(f"/v1/audit?{wrong}").status_code == 422


def test_a_row_that_was_altered_is_shown_all_the_same(api: Api) -> None:
    """An admin who looks for what went wrong sees it as it is."""
    with api.database.write() as session:
        record(session, "anna", "lane.pause", "bulk")
    with api.database.write() as session:
        session.execute(text("DROP TRIGGER audit_update"))
        session.execute(text("UPDATE audit SET detail = '[oops'"))
    rows = api.http.get("/v1/audit?who=anna").json()["rows"]
    assert rows[0]["detail"] == {"unreadable": "[oops"}
