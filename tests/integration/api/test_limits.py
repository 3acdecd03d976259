"""Limits: how often, and how much at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from pydantic import SecretStr

from cli.client import ApiClient
from core.access import Scope
from core.database import Database
from core.settings import Settings
from core.states import SubmissionState
from tests.integration.api.server import Api, add_submission, running
from tests.integration.api.test_access_keys import bearer, make


@contextmanager
def _limited(settings: Settings, database: Database, **values: object) -> Iterator[Api]:
    with running(settings.model_copy(update={"require_key": True} | values), database) as api:
        yield api


def test_each_key_has_its_own_rate(api_settings: Settings, sqlite: Database) -> None:
    """429 says when to come back, in the one shape; another key is not slowed by it."""
    busy, calm = make(sqlite, Scope.READ), make(sqlite, Scope.READ)
    with _limited(api_settings, sqlite, rate_limit="3/hour") as api:
        statuses = [api.http.get("/v1/lanes", headers=bearer(busy)).status_code for _ in range(3)]
        refused = api.http.get("/v1/lanes", headers=bearer(busy))
        assert statuses == [200, 200, 200]
        assert (refused.status_code, refused.json()["reason"]) == (429, "too_many_requests")
        assert 3500 < int(refused.headers["retry-after"]) <= 3600
        assert api.http.get("/v1/lanes", headers=bearer(calm)).status_code == 200


def test_who_shows_no_key_is_counted_by_address(api_settings: Settings, sqlite: Database) -> None:
    """Guessing is slowed; those with a key at the same address are not."""
    key = make(sqlite, Scope.READ)
    with _limited(api_settings, sqlite, rate_limit="4/hour") as api:
        guesses = [f"hb_{number:012x}_{'a' * 43}" for number in range(6)]
        statuses = [api.http.get("/v1/lanes", headers=bearer(guess)).status_code for guess in guesses]
        assert statuses == [401] * 4 + [429] * 2
        assert api.http.get("/v1/lanes", headers=bearer(key)).status_code == 200


def test_the_open_machine_has_a_rate_too(api_settings: Settings, sqlite: Database) -> None:
    """A program that runs wild on this machine leaves room for the others' work."""
    with running(api_settings.model_copy(update={"rate_limit": "2/hour"}), sqlite) as api:
        assert [api.http.get("/v1/lanes").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("address", ["/live", "/ready", "/static/pages.css"])
def test_probes_and_files_are_not_counted(api_settings: Settings, sqlite: Database, address: str) -> None:
    """An orchestrator must not kill a busy API."""
    with _limited(api_settings, sqlite, rate_limit="1/hour") as api:
        assert {api.http.get(address).status_code for _ in range(5)} == {200}


def test_a_stream_of_events_is_one_request(api_settings: Settings, sqlite: Database) -> None:
    """However many events it has: the one that is asked for after it still passes."""
    submission_id = add_submission(sqlite, state=SubmissionState.DONE)
    with running(api_settings.model_copy(update={"rate_limit": "2/hour"}), sqlite) as api:
        assert "event: end" in api.http.get(f"/v1/submissions/{submission_id}/events").text
        assert [api.http.get("/v1/lanes").status_code for _ in range(2)] == [200, 429]


def test_off_is_no_limit(api_settings: Settings, sqlite: Database) -> None:
    """For benchmarks, and where a proxy counts."""
    with running(api_settings.model_copy(update={"rate_limit": "off"}), sqlite) as api:
        assert {api.http.get("/v1/models").status_code for _ in range(20)} == {200}


def test_the_command_line_waits_and_asks_again(api_settings: Settings, sqlite: Database) -> None:
    """A long listing over a small rate takes longer, and does not break off."""
    key = make(sqlite, Scope.READ)
    with _limited(api_settings, sqlite, rate_limit="2/second") as api:
        client = ApiClient(str(api.http.base_url), api.settings.model_copy(update={"api_key": SecretStr(key)}))
        assert {len(client.lanes()) for _ in range(6)} == {3}


def test_a_body_that_is_too_long_is_refused_announced_or_not(api: Api) -> None:
    """With a Content-Length it is not read at all, without one only up to the limit."""
    body = b"x" * (api.settings.max_body_bytes + 1)
    sent = 0

    def pieces() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 2**16
            yield b"x" * 2**16

    for content in (body, pieces()):
        answer = api.http.post("/v1/submissions", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json()["reason"]) == (413, "body_too_large")


def test_a_body_within_the_limit_arrives_whole(api_settings: Settings, sqlite: Database) -> None:
    """To the byte, in one piece or many."""
    padding = "x" * 5000
    text = '{"folder": "/nowhere", "lane": "' + padding + '"}'
    with running(api_settings.model_copy(update={"max_body_bytes": len(text)}), sqlite) as api:
        headers = {"Content-Type": "application/json"}
        whole = api.http.post("/v1/submissions", content=text, headers=headers)
        pieces = api.http.post(
            "/v1/submissions", content=(text[at : at + 100].encode() for at in range(0, 6000, 100)), headers=headers
        )
        assert whole.status_code == pieces.status_code == 422
        assert whole.json() == pieces.json()
        assert "lane" in whole.json()["detail"]


def test_uploads_have_their_own_limit(api_settings: Settings, sqlite: Database) -> None:
    """Images are larger than requests."""
    with running(api_settings.model_copy(update={"max_body_bytes": 1024}), sqlite) as api:
        answer = api.http.post("/v1/submissions/upload", files={"f": ("a.png", b"x" * 10_000)})
        assert answer.status_code == 202
