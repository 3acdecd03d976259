"""Keys over HTTP: whose they are, what they may do, and when they end."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import col, select

from cli.client import ApiClient, ApiRefused
from core.access import Scope
from core.access_tables import ApiKey
from core.database import Database
from core.keys import make_key, revoke_key
from core.settings import Settings
from core.tables import utc_now
from tests.assets.programs import wait_until
from tests.integration.api.server import Api, add_submission, audited, running

_TOKEN = "correct horse battery staple"


def make(database: Database, *scopes: Scope, name: str = "anna", **values: object) -> str:
    """Make a key, as `histobatch keys create` does."""
    with database.write() as session:
        return make_key(session, name, set(scopes), made_by="root", **values)[1]  # type: ignore[arg-type]


def bearer(key: str) -> dict[str, str]:
    """The header that shows a key."""
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def locked(api_settings: Settings, database: Database, database_url: str) -> Iterator[Api]:
    """An API on each database that asks for a key and has no token."""
    settings = api_settings.model_copy(update={"require_key": True, "database_url": database_url})
    with running(settings, database) as opened:
        yield opened


@pytest.fixture
def quick(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """The same on SQLite, for rules that do not depend on the database."""
    with running(api_settings.model_copy(update={"require_key": True}), sqlite) as opened:
        yield opened


def test_a_key_lets_in_by_bearer_and_by_basic(locked: Api, images_root: Path) -> None:
    """Its name is recorded, whatever user name is given beside it: a key says whose it is."""
    key = make(locked.database, Scope.READ, Scope.SUBMIT)
    assert locked.http.get("/v1/submissions").status_code == 401
    assert locked.http.get("/v1/submissions", headers=bearer(key)).status_code == 200
    ask = {"json": {"folder": str(images_root)}}
    assert locked.http.post("/v1/submissions", headers=bearer(key), **ask).status_code == 202  # type: ignore[arg-type]
    assert locked.http.post("/v1/submissions", auth=("mallory", key), **ask).status_code == 202  # type: ignore[arg-type]
    submitted = [who for who, action, _ in audited(locked.database) if action == "submission.create"]
    assert submitted == ["anna", "anna"]


def test_a_revoked_key_ends_at_the_next_request(locked: Api) -> None:
    """No cache lets it live on, and an expired one has ended, too; the answers do not differ."""
    key = make(locked.database, Scope.READ)
    old = make(locked.database, Scope.READ, expires_at=utc_now() - timedelta(seconds=1))
    assert locked.http.get("/v1/submissions", headers=bearer(key)).status_code == 200
    with locked.database.write() as session:
        revoke_key(session, key[3:15], "root")
    unknown = "hb_" + "0" * 12 + key[15:]
    bodies = {locked.http.get("/v1/submissions", headers=bearer(each)).text for each in (key, old, unknown, "x")}
    assert len(bodies) == 1
    assert '"unauthorized"' in bodies.pop()


@pytest.mark.parametrize(
    ("method", "address", "needed"),
    [
        ("GET", "/v1/submissions", Scope.READ),
        ("GET", "/metrics", Scope.READ),
        ("GET", "/", Scope.READ),
        ("DELETE", "/v1/submissions/{id}", Scope.SUBMIT),
        ("POST", "/v1/submissions/upload", Scope.SUBMIT),
        ("POST", "/v1/archives/none/scans", Scope.SUBMIT),
        ("POST", "/v1/lanes/bulk/pause", Scope.ADMIN),
        ("POST", "/v1/archives", Scope.ADMIN),
        ("DELETE", "/v1/archives/none", Scope.ADMIN),
    ],
)
def test_a_scope_opens_what_it_names_and_nothing_else(quick: Api, method: str, address: str, needed: Scope) -> None:
    """The key with the scope, or an admin's, is not refused for it; one with all the others is, before any work."""
    address = address.format(id=add_submission(quick.database))
    others = make(quick.database, *(set(Scope) - {needed, Scope.ADMIN}))
    refused = quick.http.request(method, address, headers=bearer(others))
    assert (refused.status_code, needed.value in refused.text) == (403, True)
    for scope in (needed, Scope.ADMIN):
        answer = quick.http.request(method, address, headers=bearer(make(quick.database, scope)))
        assert answer.status_code not in (401, 403), answer.text


def test_key_and_token_work_side_by_side(api_settings: Settings, sqlite: Database) -> None:
    """The token is an admin's; where it is set nobody gets in without one of the two."""
    key = make(sqlite, Scope.READ)
    with running(api_settings.model_copy(update={"api_token": SecretStr(_TOKEN)}), sqlite) as api:
        assert api.http.get("/v1/lanes").status_code == 401
        assert api.http.get("/v1/lanes", headers=bearer(key)).status_code == 200
        assert api.http.post("/v1/lanes/bulk/pause", headers=bearer(key)).status_code == 403
        assert api.http.post("/v1/lanes/bulk/pause", auth=("root", _TOKEN)).json()["paused_by"] == "root"


def test_a_token_with_letters_beyond_ascii_is_compared_by_its_bytes(api_settings: Settings, sqlite: Database) -> None:
    """What a client sends as UTF-8 is what the settings hold."""
    with running(api_settings.model_copy(update={"api_token": SecretStr("Schlüssel")}), sqlite) as api:
        for sent, status in (("Schlüssel", 200), ("Schlussel", 401)):
            header = {"Authorization": f"Bearer {sent}".encode()}
            assert httpx.get(f"{api.http.base_url}/v1/lanes", headers=header).status_code == status  # type: ignore[arg-type]


def test_without_require_key_this_machine_needs_none(api: Api) -> None:
    """ADR 0008 stays true: a key changes nothing where nothing is asked for, not even the name."""
    key = make(api.database, Scope.READ)
    paused = api.http.post("/v1/lanes/bulk/pause", headers=bearer(key))
    assert (paused.status_code, paused.json()["paused_by"]) == (200, "api")


def test_require_key_holds_on_loopback_and_for_any_host_name(quick: Api) -> None:
    """Nobody gets in without a key; who has one may use the name that a proxy passes on."""
    assert quick.http.get("/v1/lanes").status_code == 401
    header = bearer(make(quick.database, Scope.READ)) | {"Host": "histobatch.hospital.example"}
    assert quick.http.get("/v1/lanes", headers=header).status_code == 200


def test_a_database_that_is_away_is_not_a_wrong_key(quick: Api) -> None:
    """503 with Retry-After: who has a key tries again, and does not look for another."""
    key = make(quick.database, Scope.READ)
    with quick.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE web_session")
        connection.exec_driver_sql("DROP TABLE api_key")
    for headers in (bearer(key), {"Cookie": "histobatch_session=x"}):
        answer = quick.http.get("/v1/lanes", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (503, "database_unavailable")
        assert int(answer.headers["retry-after"]) > 0


def test_use_is_noted_behind_the_answer(quick: Api) -> None:
    """The first use is written; the next within the hour is not."""
    key = make(quick.database, Scope.READ)

    def used() -> object:
        with quick.database.read() as session:
            return session.get_one(ApiKey, key[3:15]).last_used_at

    assert used() is None
    quick.http.get("/v1/lanes", headers=bearer(key))
    wait_until(lambda: used() is not None, "the use is noted")
    first = used()
    quick.http.get("/v1/lanes", headers=bearer(key))
    quick.http.get("/v1/status", headers=bearer(key))
    assert used() == first


def test_a_write_that_hangs_keeps_no_reader_waiting(quick: Api) -> None:
    """While another program holds the database's write lock, keys are read and answers given as ever."""
    key = make(quick.database, Scope.READ)
    with quick.database.write() as session:
        session.execute(update(ApiKey).where(col(ApiKey.id) == "none").values(name="x"))
        # Who needed the lock would be refused it while the block goes on.
        for _ in range(3):
            assert quick.http.get("/v1/lanes", headers=bearer(key)).status_code == 200


def test_secrets_get_into_no_log(quick: Api, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither right nor wrong ones, wherever they are put."""
    key = make(quick.database, Scope.READ)
    with structlog.testing.capture_logs() as entries:
        for headers in (bearer(key), bearer(key + "x"), {"Cookie": f"histobatch_session={key}"}):
            quick.http.get("/v1/lanes", headers=headers)
        quick.http.get(f"/v1/lanes?key={key}")
        quick.http.post("/login", data={"key": key + "x"})
        wait_until(lambda: len([e for e in entries if e["event"] == "request_handled"]) == 5, "all is logged")
    assert key[16:] not in str(entries) + "".join(capfd.readouterr())


def test_the_command_line_shows_its_key(quick: Api) -> None:
    """HISTOBATCH_API_KEY goes before the token; without either the answer names what is missing."""
    key = make(quick.database, Scope.READ)
    settings = quick.settings.model_copy(update={"api_key": SecretStr(key), "api_token": SecretStr("other")})
    assert len(ApiClient(str(quick.http.base_url), settings).lanes()) == 3
    with pytest.raises(ApiRefused, match="unauthorized"):
        ApiClient(str(quick.http.base_url), quick.settings).lanes()


def test_documentation_says_how_to_show_a_key(quick: Api) -> None:
    """The OpenAPI names the ways in, and each operation that asks for one."""
    document = quick.http.get("/openapi.json", headers=bearer(make(quick.database, Scope.READ))).json()
    schemes = document["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values() if scheme["type"] == "http"} == {"bearer", "basic"}
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert bool(operation.get("security")) == (path not in ("/live", "/ready")), path


def test_every_key_of_the_database_is_hashed(quick: Api) -> None:
    """Whoever reads a backup gets in nowhere."""
    key = make(quick.database, Scope.ADMIN)
    with quick.database.read() as session:
        (row,) = session.exec(select(ApiKey))
    shown = [f"hb_{row.id}_{row.secret_hash}", f"hb_{row.id}_{row.secret_hash[:43]}", row.secret_hash]
    assert {quick.http.get("/v1/lanes", headers=bearer(each)).status_code for each in shown} == {401}
    assert key not in str(row.model_dump())
