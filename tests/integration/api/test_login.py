"""Sessions: a person logs in with a key, sees pages, and logs out; nobody else does so with that person's browser."""

import re
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import update
from sqlmodel import select
from starlette.requests import Request

from api.login import local_target
from core.access import Scope
from core.access_tables import WebSession
from core.bundle import NOTICE
from core.database import Database
from core.keys import revoke_key
from core.settings import Settings
from core.tables import utc_now
from tests.integration.api.server import Api, add_items, add_submission, audited, running
from tests.integration.api.test_access_keys import make

_HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
_COOKIE = "histobatch_session"


@pytest.fixture
def locked(api_settings: Settings, sqlite: Database) -> Iterator[Api]:
    """An API that asks for a key."""
    with running(api_settings.model_copy(update={"require_key": True}), sqlite) as opened:
        yield opened


@pytest.fixture
def each_locked(api_settings: Settings, database: Database, database_url: str) -> Iterator[Api]:
    """The same on each database, with a token beside."""
    update = {"require_key": True, "api_token": SecretStr("the token"), "database_url": database_url}
    with running(api_settings.model_copy(update=update), database) as opened:
        yield opened


def _log_in(api: Api, key: str, target: str = "", **headers: str) -> httpx.Response:
    origin = str(api.http.base_url).rstrip("/")
    return api.http.post("/login", data={"key": key, "next": target}, headers={"Origin": origin} | _HTML | headers)


def _sessions(database: Database) -> list[WebSession]:
    with database.read() as session:
        return list(session.exec(select(WebSession)))


def _add_image(api: Api) -> str:
    submission_id = add_submission(api.database)
    (item_id,) = add_items(api.database, submission_id, [{"decision": "uncertain", "probability": 0.5}])
    return f"/submissions/{submission_id}/items/{item_id}"


def _csrf(page: str) -> str:
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', page)
    assert found is not None
    return found[1]


def test_browser_without_a_session_is_sent_to_log_in(locked: Api) -> None:
    """And comes back to where it was going; a program gets 401, as does whoever shows a wrong key."""
    for address, login in (
        ("/", "/login?next=/"),
        ("/submissions/abc?show=malignant&cursor=3", "/login?next=/submissions/abc%3Fshow%3Dmalignant%26cursor%3D3"),
        ("/metrics", "/login?next=/metrics"),
    ):
        answer = locked.http.get(address, headers=_HTML)
        assert (answer.status_code, answer.headers["location"]) == (303, login)
        assert locked.http.get(address).status_code == 401
        assert locked.http.get(address, headers=_HTML, auth=("anna", "wrong")).status_code == 401


def test_parts_of_a_page_do_not_make_a_browser_ask_by_itself(locked: Api) -> None:
    """A picture whose session ended is 401 without an offer of Basic: no window opens over the page."""
    answer = locked.http.get("/v1/lanes", headers={"Accept": "*/*", "Sec-Fetch-Mode": "cors"})
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_session_is_a_cookie_that_scripts_and_other_sites_do_not_get(each_locked: Api) -> None:
    """Its hash is stored, not itself; it stands for the key's name and scopes, and the audit tells."""
    key = make(each_locked.database, Scope.READ)
    answer = _log_in(each_locked, key, "/docs")
    assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
    attributes = answer.headers["set-cookie"].lower()
    for part in ("httponly", "samesite=strict", "path=/;", "max-age=43200"):
        assert part in attributes + ";"
    assert "secure" not in attributes
    (row,) = _sessions(each_locked.database)
    assert each_locked.http.cookies[_COOKIE] not in str(row.model_dump())
    page = each_locked.http.get("/", headers=_HTML)
    assert page.status_code == 200
    assert "anna" in page.text
    assert each_locked.http.get("/v1/lanes").status_code == 200
    origin = {"Origin": str(each_locked.http.base_url).rstrip("/")}
    assert each_locked.http.post("/v1/lanes/bulk/pause", headers=origin).status_code == 403
    assert ("anna", "session.begin", key[3:15]) in audited(each_locked.database)


def test_cookie_is_secure_where_people_come_over_https(locked: Api, api_settings: Settings, sqlite: Database) -> None:
    """As the request or the public address says; then browsers are told to stay with HTTPS, too."""
    key = make(sqlite, Scope.READ)
    forwarded = _log_in(
        locked, key, **{"X-Forwarded-Proto": "https", "Origin": f"https://{locked.http.base_url.netloc.decode()}"}
    )
    settings = api_settings.model_copy(update={"require_key": True, "public_url": "https://histobatch.example"})
    with running(settings, sqlite) as public:
        for answer in (forwarded, _log_in(public, key)):
            assert "; secure" in answer.headers["set-cookie"].lower()
            assert "max-age=" in answer.headers["strict-transport-security"]
    assert "strict-transport-security" not in _log_in(locked, key).headers


def test_end_of_a_key_is_the_end_of_its_sessions(each_locked: Api) -> None:
    """At the next request."""
    key = make(each_locked.database, Scope.READ)
    _log_in(each_locked, key)
    assert each_locked.http.get("/v1/lanes").status_code == 200
    with each_locked.database.write() as session:
        revoke_key(session, key[3:15], "root")
    assert each_locked.http.get("/v1/lanes").status_code == 401
    assert each_locked.http.get("/", headers=_HTML).status_code == 303


def test_changed_token_ends_its_sessions(each_locked: Api) -> None:
    """One that was begun with a token that is no longer the token."""
    _log_in(each_locked, "the token")
    cookies = {_COOKIE: each_locked.http.cookies[_COOKIE]}
    assert each_locked.http.get("/v1/audit").status_code != 401
    for token, status in (("the token", 200), ("another", 401), ("", 401)):
        settings = each_locked.settings.model_copy(update={"api_token": SecretStr(token)})
        with running(settings, each_locked.database) as other:
            assert httpx.get(f"{other.http.base_url}/v1/lanes", cookies=cookies).status_code == status


def test_sessions_expire_and_are_swept(each_locked: Api) -> None:
    """After its hours a cookie opens nothing, and the next who logs in sweeps its row."""
    key = make(each_locked.database, Scope.READ)
    _log_in(each_locked, key)
    with each_locked.database.write() as session:
        session.execute(update(WebSession).values(expires_at=utc_now() - timedelta(seconds=1)))
    assert each_locked.http.get("/v1/lanes").status_code == 401
    each_locked.http.cookies.clear()
    _log_in(each_locked, key)
    assert len(_sessions(each_locked.database)) == 1


def test_wrong_key_begins_nothing_and_is_not_told_why(locked: Api) -> None:
    """The page says so, whatever was wrong, and that it is for research only."""
    for shown in ("wrong", "", "hb_" + "0" * 12 + "_" + "a" * 43, "a\x00b", "ü" * 50):
        answer = _log_in(locked, shown, "/docs")
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)
        assert "This key is not known, or it has ended." in answer.text
        assert 'value="/docs"' in answer.text
        assert NOTICE in answer.text
    assert _sessions(locked.database) == []


def test_key_that_may_not_read_is_told_so(locked: Api) -> None:
    """A letter box's key would find every page shut."""
    answer = _log_in(locked, make(locked.database, Scope.SUBMIT))
    assert (answer.status_code, "may not read" in answer.text) == (403, True)


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "///evil.example",
        "javascript:alert(1)",
        "evil.example",
        "http:/evil.example",
        "/ü",
        "//[",
        "",
    ],
)
def test_login_leads_nowhere_else(target: str) -> None:
    """Only to an address of this app, however another is written; below a proxy's path only there."""
    for root in ("", "/histo"):
        assert local_target(target, Request({"type": "http", "root_path": root})) == f"{root}/"
    assert local_target("/histo/docs?a=/b", Request({"type": "http", "root_path": "/histo"})) == "/histo/docs?a=/b"


def test_login_is_throttled(api_settings: Settings, sqlite: Database) -> None:
    """A right key is refused, too, until the time is over: a limit that lets the right one through limits nothing."""
    key = make(sqlite, Scope.READ)
    settings = api_settings.model_copy(update={"require_key": True, "login_limit": "3/hour"})
    with running(settings, sqlite) as api:
        assert [_log_in(api, "wrong").status_code for _ in range(3)] == [401] * 3
        answer = _log_in(api, key)
        assert (answer.status_code, "set-cookie" in answer.headers) == (429, False)
        assert int(answer.headers["retry-after"]) > 3000


def test_another_site_logs_nobody_in(locked: Api) -> None:
    """With its own key it could see what a person hands in afterwards."""
    answer = _log_in(locked, make(locked.database, Scope.READ), Origin="https://evil.example")
    assert (answer.status_code, "set-cookie" in answer.headers) == (403, False)


def test_log_out_asks_for_the_forms_value(locked: Api) -> None:
    """Without it, or with that of another session, the session goes on; with it, it ends, and the audit tells."""
    key = make(locked.database, Scope.READ)
    origin = {"Origin": str(locked.http.base_url).rstrip("/")}
    _log_in(locked, key)
    others = _csrf(locked.http.get("/", headers=_HTML).text)
    locked.http.cookies.clear()
    _log_in(locked, key)
    for value in ("", others, "0" * 64, "ü"):
        answer = locked.http.post("/logout", data={"csrf": value}, headers=origin)
        assert answer.status_code == 403
    mine = _csrf(locked.http.get("/", headers=_HTML).text)
    cookies = {_COOKIE: locked.http.cookies[_COOKIE]}
    answer = locked.http.post("/logout", data={"csrf": mine}, headers=origin)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert _COOKIE not in locked.http.cookies
    assert httpx.get(f"{locked.http.base_url}/v1/lanes", cookies=cookies).status_code == 401
    assert [action for _, action, _ in audited(locked.database)][-1] == "session.end"


def test_forms_hold_over_restarts_and_replicas(locked: Api) -> None:
    """Another API process on the same database takes the form that the first one showed."""
    _log_in(locked, make(locked.database, Scope.READ))
    value = _csrf(locked.http.get("/", headers=_HTML).text)
    cookies = {_COOKIE: locked.http.cookies[_COOKIE]}
    with running(locked.settings, locked.database) as other:
        origin = {"Origin": str(other.http.base_url).rstrip("/")}
        answer = httpx.post(f"{other.http.base_url}/logout", data={"csrf": value}, headers=origin, cookies=cookies)
        assert answer.status_code == 303
    assert _sessions(locked.database) == []


def test_forms_of_basic_users_hold_everywhere_and_for_them_alone(locked: Api) -> None:
    """The value comes from the key that HTTP Basic shows: any API process takes it, and from no other key."""
    mine, others = (make(locked.database, Scope.READ, Scope.REVIEW) for _ in range(2))
    address = _add_image(locked)
    value = _csrf(locked.http.get(address, auth=("", mine)).text)
    sent = {"verdict": "undecided", "csrf": value}
    with running(locked.settings, locked.database) as other:
        assert other.http.post(address, auth=("", others), data=sent).status_code == 403
        assert other.http.post(address, auth=("", mine), data=sent).status_code == 303


def test_forms_of_the_open_machine_ask_for_their_value(api: Api) -> None:
    """A page of another site cannot read it, even where nobody is asked who they are."""
    address = _add_image(api)
    value = _csrf(api.http.get(address).text)
    for sent, status in (("", 403), ("0" * 64, 403), (value, 303)):
        assert api.http.post(address, data={"verdict": "undecided", "csrf": sent}).status_code == status


def test_cookie_alone_changes_nothing(locked: Api) -> None:
    """What does not say where it comes from is no browser of today; a program sends a key instead."""
    _log_in(locked, make(locked.database, Scope.ADMIN))
    answer = locked.http.post("/v1/lanes/bulk/pause")
    assert (answer.status_code, answer.json()["reason"]) == (403, "origin_refused")


def test_open_machine_needs_no_login(api: Api) -> None:
    """Where nothing is asked for, the page leads on, and nobody gets a cookie."""
    for answer in (api.http.get("/login?next=/docs"), _log_in(api, "x", "/docs")):
        assert (answer.status_code, answer.headers["location"]) == (303, "/docs")
        assert "set-cookie" not in answer.headers


def test_whoever_has_a_session_is_not_asked_again(locked: Api) -> None:
    """The page leads on; who comes from another site is asked to load it again, now with the cookie."""
    foreign = locked.http.get("/login?next=/docs", headers=_HTML | {"Sec-Fetch-Site": "cross-site"})
    assert (foreign.status_code, foreign.headers["refresh"]) == (200, "0")
    assert "refresh" not in locked.http.get("/login", headers=_HTML | {"Sec-Fetch-Site": "same-origin"}).headers
    _log_in(locked, make(locked.database, Scope.READ))
    assert locked.http.get("/login?next=/docs").headers["location"] == "/docs"


@pytest.mark.browser
def test_person_logs_in_sees_a_page_and_logs_out(chromium: Any, locked: Api) -> None:
    """In a real browser, with the keyboard: asked for a key, back where they were going, out again."""
    key = make(locked.database, Scope.READ, Scope.REVIEW, name="Dr. Anna")
    origin = str(locked.http.base_url).rstrip("/")
    context = chromium.new_context()
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{origin}/?from=here")
    assert page.url.startswith(f"{origin}/login?next=")
    assert NOTICE in page.inner_text("body")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    page.get_by_label("Key or token").fill(key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{origin}/?from=here")
    assert "Dr. Anna" in page.inner_text("header")
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(f"{origin}/login**")
    page.goto(f"{origin}/")
    assert page.url.startswith(f"{origin}/login")
    assert errors == []
    context.close()


@pytest.mark.browser
def test_link_from_another_site_finds_the_session(chromium: Any, locked: Api) -> None:
    """A link in a mail or chat opens the page, although the browser first comes without the cookie."""
    key = make(locked.database, Scope.READ)
    origin = str(locked.http.base_url).rstrip("/")
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{origin}/login")
    page.get_by_label("Key or token").fill(key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{origin}/")
    context.route(
        "http://chat.example/",
        lambda route: route.fulfill(content_type="text/html", body=f'<a href="{origin}/?from=mail">look</a>'),
    )
    page.goto("http://chat.example/")
    page.get_by_role("link", name="look").click()
    page.wait_for_url(f"{origin}/?from=mail")
    assert "Log out" in page.inner_text("header")
    # Who has no session is asked for a key, on a page that loads itself again once and then stands still.
    context.clear_cookies()
    shown: list[str] = []
    page.on("request", lambda request: shown.append(request.method) if "/login" in request.url else None)
    page.goto("http://chat.example/")
    loads = count(1)
    with page.expect_event("load", lambda _: next(loads) == 2):
        page.get_by_role("link", name="look").click()
    page.get_by_label("Key or token").fill(key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{origin}/?from=mail")
    assert shown == ["GET", "GET", "POST"]
    context.close()
