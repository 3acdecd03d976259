"""Who may ask: keys, the token, sessions, and the guard against other web sites that use a person's browser."""

import hmac
from datetime import datetime
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api.context import ANONYMOUS, Context
from api.credentials import Visitor, read_header, recognise, recognise_session
from api.csrf import OPEN_SECRET
from api.limits import Rate, local_path
from api.problems import ApiError, ProblemReason, database_away, error_response, problem_response
from api.web_sessions import COOKIE
from core.access import ALL_SCOPES, Principal
from core.keys import is_use_to_note, note_use
from core.settings import Settings
from core.tables import utc_now

log = structlog.get_logger(__name__)

# Probes of an orchestrator carry no key, and learn nothing but names of parts.
OPEN_PATHS = frozenset({"/live", "/ready"})
LOGIN = "/login"
# What the log-in page shows must load before anybody has logged in; it comes with the package.
_STATIC = "/static/"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_BASIC = 'Basic realm="histobatch", charset="UTF-8", Bearer'
# Without an offer of Basic a browser does not open its own window over our page.
_BEARER = "Bearer"


class AccessMiddleware:
    """Lets a request through when it shows a key, the token or a session, and remembers whose it is.

    Where neither the token is set nor keys are required, the API listens on loopback only, where every program of this
    machine may ask, but no web site: a page that a browser on this machine shows could otherwise reach it by DNS
    rebinding (so the Host must be a loopback name) or post a form to it (so a foreign Origin may not change anything,
    key or not).
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._rate = Rate(settings.rate_limit)
        self._noting: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with a problem."""
        if scope["type"] != "http" or local_path(scope) in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            self._refuse_foreign(scope["method"], headers)
            if local_path(scope) == LOGIN:
                await self._rate.count(_address(scope))
            if local_path(scope) == LOGIN or local_path(scope).startswith(_STATIC):
                await self._app(scope, receive, send)
                return
            visitor = await self._find_visitor(scope, headers)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        if visitor is None:
            await _ask_who(scope, headers)(scope, receive, send)
            return
        _let_in(scope, visitor)
        await self._app(scope, receive, send)
        await self._note_use(scope, visitor)

    def _refuse_foreign(self, method: str, headers: Headers) -> None:
        if method not in _SAFE_METHODS and _is_foreign(headers):
            raise _forbidden(ProblemReason.ORIGIN_REFUSED, "other web sites may not change things")
        if not self._settings.asks_who and _host_name(headers) not in _LOOPBACK_NAMES:
            raise _forbidden(
                ProblemReason.HOST_REFUSED,
                "without HISTOBATCH_API_TOKEN or HISTOBATCH_REQUIRE_KEY only this machine may ask, "
                "by the name 127.0.0.1 or localhost",
            )

    async def _find_visitor(self, scope: Scope, headers: Headers) -> Visitor | None:
        """Find out who asks, and count the request; None for nobody who is known."""
        if not self._settings.asks_who:
            await self._rate.count(_address(scope))
            return Visitor(Principal(ANONYMOUS, ALL_SCOPES), OPEN_SECRET)
        try:
            visitor = await run_in_threadpool(_recognise, scope, headers, self._settings, utc_now())
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            # Not 401: whoever has a key shall try again, not look for another.
            raise database_away(error) from error
        key = None if visitor is None else visitor.principal.key_id
        await self._rate.count(key or _address(scope))
        if visitor is not None and visitor.has_session:
            _insist_on_origin(scope["method"], headers)
        return visitor

    async def _note_use(self, scope: Scope, visitor: Visitor) -> None:
        """Note that a key was used, behind the answer: a database that is busy keeps nobody waiting."""
        now, key = utc_now(), visitor.key
        if key is None or key.id in self._noting or not is_use_to_note(key, now):
            return
        # One at a time for each key: a database that is locked must not take all threads.
        self._noting.add(key.id)
        try:
            await run_in_threadpool(note_use, _context(scope).database, key.id, now)
        except SQLAlchemyError as error:
            # Tells people which keys are still in use, to the hour; the answer that was given is worth more.
            log.warning("key_use_not_noted", key_id=key.id, error=type(error).__name__)
        finally:
            self._noting.discard(key.id)


def _recognise(scope: Scope, headers: Headers, settings: Settings, now: datetime) -> Visitor | None:
    database = _context(scope).database
    authorization = headers.get("authorization")
    if authorization is not None:
        shown = read_header(authorization)
        return None if shown is None else recognise(shown, settings, database, now)
    cookie = HTTPConnection(scope).cookies.get(COOKIE)
    return None if not cookie else recognise_session(cookie, settings, database, now)


def _context(scope: Scope) -> Context:
    context = scope["app"].state.context
    assert isinstance(context, Context)  # noqa: S101 - set by the lifespan, before any request
    return context


def _address(scope: Scope) -> str:
    return str((scope.get("client") or ("",))[0])


def _let_in(scope: Scope, visitor: Visitor) -> None:
    state = scope.setdefault("state", {})
    state["principal"] = visitor.principal
    state["has_session"] = visitor.has_session
    state["form_key"] = hmac.digest(visitor.form_secret, b"histobatch forms", "sha256")


def _ask_who(scope: Scope, headers: Headers) -> Response:
    """Answer to who is not known, without a word on why: browsers that open a page log in, programs get 401."""
    has_shown = "authorization" in headers
    if not has_shown and "text/html" in headers.get("accept", ""):
        root = scope.get("root_path", "")
        query = scope["query_string"].decode("latin-1")
        target = root + local_path(scope) + (f"?{query}" if query else "")
        # What a form held is lost; a page can be come back to.
        back = f"?next={quote(target, safe='/')}" if scope["method"] in _SAFE_METHODS else ""
        return RedirectResponse(f"{root}{LOGIN}{back}", HTTPStatus.SEE_OTHER)
    is_page = not has_shown and "sec-fetch-mode" in headers
    return problem_response(
        HTTPStatus.UNAUTHORIZED,
        ProblemReason.UNAUTHORIZED,
        "send 'Authorization: Bearer KEY' with a key or the token, or HTTP Basic with it as the password",
        {"WWW-Authenticate": _BEARER if is_page else _BASIC},
    )


def _forbidden(reason: ProblemReason, detail: str) -> ApiError:
    return ApiError(HTTPStatus.FORBIDDEN, reason, detail)


def _is_foreign(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = headers.get("origin")
    try:
        return origin is not None and urlsplit(origin).netloc != headers.get("host", "")
    except ValueError:
        return True


def _insist_on_origin(method: str, headers: Headers) -> None:
    """Refuse a change by cookie that does not say where it comes from; every browser says so."""
    if method not in _SAFE_METHODS and "origin" not in headers and "sec-fetch-site" not in headers:
        raise _forbidden(
            ProblemReason.ORIGIN_REFUSED, "a session's cookie changes nothing without Origin: programs send a key"
        )


def _host_name(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""
