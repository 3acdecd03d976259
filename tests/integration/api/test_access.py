"""Who may ask, and that every answer has the same manners."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import structlog
from pydantic import SecretStr
from sqlmodel import select

from core.bundle import NOTICE
from core.database import Database
from core.settings import Settings
from core.tables import Audit, Submission
from tests.integration.api.server import Api, running

_TOKEN = "correct horse battery staple"
_ADDRESSES = ["/", "/v1/submissions", "/v1/models", "/metrics", "/docs", "/openapi.json", "/static/pages.css", "/nope"]
_GUARDED = [address for address in _ADDRESSES if not address.startswith("/static/")]


@pytest.fixture
def locked(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """An API that asks for a token."""
    with running(api_settings.model_copy(update={"api_token": SecretStr(_TOKEN)}), sqlite) as opened:
        yield opened


@pytest.mark.parametrize("address", _GUARDED)
@pytest.mark.parametrize(
    "header",
    [None, "Bearer wrong", "Bearer", "Basic", "Basic !!!", "Basic eDp5", f"Digest {_TOKEN}", "Bearer é"],
)
def test_without_the_token_nothing_is_told(locked: Api, address: str, header: str | None) -> None:
    """401 with a challenge that browsers understand, for pages and addresses that do not exist, too."""
    headers = {} if header is None else {"Authorization": header.encode()}
    answer = locked.http.get(address, headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["reason"]) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Basic realm=")
    assert answer.headers["x-notice"] == NOTICE


@pytest.mark.parametrize("address", ["/live", "/ready"])
def test_probes_need_no_token(locked: Api, address: str) -> None:
    """An orchestrator asks without credentials."""
    assert locked.http.get(address).status_code == 200


def test_bearer_and_basic_open_the_door(locked: Api) -> None:
    """The token as a bearer, or as the password of any user."""
    assert locked.http.get("/v1/submissions", headers={"Authorization": f"Bearer {_TOKEN}"}).status_code == 200
    assert locked.http.get("/", auth=("anna", _TOKEN)).status_code == 200
    assert locked.http.get("/", auth=(_TOKEN, "anna")).status_code == 401


def test_submitter_is_the_basic_user(locked: Api, images_root: Path) -> None:
    """Who handed in is recorded with the submission and in the audit; "api" where the name is not known."""
    ask = {"json": {"folder": str(images_root)}}
    locked.http.post("/v1/submissions", auth=("anna", _TOKEN), **ask)  # type: ignore[arg-type]
    locked.http.post("/v1/submissions", headers={"Authorization": f"Bearer {_TOKEN}"}, **ask)  # type: ignore[arg-type]
    with locked.database.read() as session:
        assert sorted(row.submitter for row in session.exec(select(Submission))) == ["anna", "api"]
        assert sorted(row.who for row in session.exec(select(Audit))) == ["anna", "api"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_web_sites_change_nothing(api: Api, headers: dict[str, str]) -> None:
    """A form on another site, sent by a person's browser, is refused before it is read."""
    answer = api.http.post("/v1/submissions/upload", files={"f": ("a.png", b"1")}, headers=headers)
    assert (answer.status_code, answer.json()["reason"]) == (403, "origin_refused")
    assert list(api.settings.uploads_dir.iterdir()) == []


def test_own_pages_may_change_things(api: Api, images_root: Path) -> None:
    """A request from the API's own origin passes."""
    origin = str(api.http.base_url).rstrip("/")
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    answer = api.http.post("/v1/submissions", json={"folder": str(images_root)}, headers=headers)
    assert answer.status_code == 202


def test_rebound_name_is_refused_without_a_token(api: Api, locked: Api) -> None:
    """A web site that points its own name at this machine reads nothing; with a token any name will do."""
    evil = {"Host": "evil.example:8000"}
    answer = api.http.get("/v1/submissions", headers=evil)
    assert (answer.status_code, answer.json()["reason"]) == (403, "host_refused")
    assert locked.http.get("/v1/submissions", headers=evil, auth=("a", _TOKEN)).status_code == 200


@pytest.mark.parametrize(
    ("method", "address", "status", "reason"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("GET", "/v1/nope", 404, "not_found"),
        ("GET", "/static/nope", 404, "not_found"),
        ("PUT", "/v1/submissions", 405, "method_not_allowed"),
        ("GET", "/v1/submissions?limit=0", 422, "request_invalid"),
        ("GET", "/v1/submissions?cursor=%00", 422, "request_invalid"),
        ("GET", "/v1/submissions/x/results.xlsx", 404, "not_found"),
    ],
)
def test_every_error_has_one_shape(api: Api, method: str, address: str, status: int, reason: str) -> None:
    """A reason code and a sentence, whatever went wrong, and the notice."""
    answer = api.http.request(method, address)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert set(answer.json()) == {"reason", "detail"}
    assert answer.headers["x-notice"] == NOTICE


def test_database_that_fails_is_a_problem_of_its_own(api: Api) -> None:
    """Without its tables the API says 503 in the one shape, and tells no SQL."""
    with api.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE batch")
    answer = api.http.get("/v1/submissions/" + "0" * 32)
    assert answer.status_code == 404
    api.http.headers["X-Request-ID"] = "abc"
    with api.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE item")
        connection.exec_driver_sql("DROP TABLE submission")
    answer = api.http.get("/v1/submissions")
    assert (answer.status_code, answer.json()["reason"]) == (503, "database_unavailable")
    assert "submission" not in answer.json()["detail"]
    assert answer.headers["x-request-id"] == "abc"


@pytest.mark.parametrize("address", _ADDRESSES[:-1])
def test_every_answer_carries_notice_and_guards(api: Api, address: str) -> None:
    """Research use only; no sniffing, no framing, no foreign scripts, no copies of results in caches."""
    answer = api.http.get(address)
    assert answer.status_code == 200
    assert answer.headers["x-notice"] == NOTICE
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert ("unsafe-inline" in answer.headers["content-security-policy"]) == (address == "/docs")
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert "camera=()" in answer.headers["permissions-policy"]
    # Over HTTP a browser would not believe it, and this machine's other servers are none of ours.
    assert "strict-transport-security" not in answer.headers
    if not address.startswith("/static"):
        assert answer.headers["cache-control"] == "no-store"


def test_log_tells_routes_and_ids_but_no_names(api: Api, images_root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither a folder's name nor what someone typed into an address gets into the log."""
    folder = images_root / "patient-Doe"
    folder.mkdir()
    with structlog.testing.capture_logs() as entries:
        created = api.http.post("/v1/submissions", json={"folder": str(folder)})
        api.http.post("/v1/submissions", json={"folder": str(folder / "Doe-missing")})
        api.http.get("/v1/submissions/Doe")
        api.http.get("/Doe")
        api.http.post("/v1/submissions/upload", files={"f": ("Doe.png", b"1")})
        # The line is written after the answer.
        deadline = time.monotonic() + 20
        while sum(entry["event"] == "request_handled" for entry in entries) < 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    text = str(entries) + "".join(capfd.readouterr())
    assert "Doe" not in text
    assert created.json()["id"] in text
    assert {entry["route"] for entry in entries if entry["event"] == "request_handled"} >= {
        "/v1/submissions",
        "/v1/submissions/{submission_id}",
        "/v1/submissions/upload",
    }


def test_documentation_names_every_route(api: Api) -> None:
    """The OpenAPI document holds what is promised, and /docs gets its scripts from here."""
    paths = api.http.get("/openapi.json").json()["paths"]
    assert {
        "/v1/submissions",
        "/v1/submissions/upload",
        "/v1/submissions/{submission_id}",
        "/v1/submissions/{submission_id}/items",
        "/v1/submissions/{submission_id}/results.csv",
        "/v1/submissions/{submission_id}/results.jsonl",
        "/v1/submissions/{submission_id}/results.parquet",
        "/v1/submissions/{submission_id}/retry",
        "/v1/lanes",
        "/v1/lanes/{lane}/pause",
        "/v1/lanes/{lane}/resume",
        "/v1/status",
        "/v1/results/{content_hash}",
        "/v1/models",
        "/live",
        "/ready",
        "/metrics",
    } <= set(paths)
    for script in ("swagger-ui-bundle.js", "swagger-ui.css"):
        assert f"/static/docs/{script}" in api.http.get("/docs").text
        assert httpx.get(f"{api.http.base_url}/static/docs/{script}").status_code == 200
