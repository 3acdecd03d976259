"""/login and /logout: a person shows a key once, and a session stands for it until it ends."""

from http import HTTPStatus
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse

from api.access import LOGIN
from api.context import Context, ContextDep
from api.credentials import Shown, Visitor, recognise, recognise_session
from api.csrf import CheckedForm
from api.pages.page_route import PageRoute
from api.problems import ApiError
from api.rendering import render
from api.rights import PrincipalDep
from api.web_sessions import COOKIE, begin_session, drop_cookie, end_session, set_cookie
from core.access import Scope
from core.tables import utc_now

router = APIRouter(include_in_schema=False, default_response_class=HTMLResponse, route_class=PageRoute)

_LONGEST = 2000
_Next = Annotated[str, Query(alias="next", max_length=_LONGEST)]


@router.get(LOGIN)
def show_login(request: Request, context: ContextDep, target: _Next = "") -> Response:
    """Ask for a key; pass on who needs none, or has shown one."""
    cookie = request.cookies.get(COOKIE)
    has_session = bool(cookie) and recognise_session(cookie or "", context.settings, context.database, utc_now())
    if has_session or not context.settings.asks_who:
        return RedirectResponse(local_target(target, request), HTTPStatus.SEE_OTHER)
    page = _render(request, target, "")
    if request.headers.get("sec-fetch-site") == "cross-site":
        # Who follows a link from a mail comes without the cookie (SameSite=Strict). Loading the page again comes from
        # here, and so with the cookie of a session that goes on.
        page.headers["Refresh"] = "0"
    return page


@router.post(LOGIN)
async def log_in(
    request: Request,
    context: ContextDep,
    key: Annotated[str, Form(max_length=_LONGEST)] = "",
    target: Annotated[str, Form(alias="next", max_length=_LONGEST)] = "",
) -> Response:
    """Begin a session for whoever shows a key that may read, or the token."""
    if not context.settings.asks_who:
        return RedirectResponse(local_target(target, request), HTTPStatus.SEE_OTHER)
    try:
        await context.logins.count(request.client.host if request.client else "")
    except ApiError as error:
        page = _render(request, target, "Too many tries: wait a minute.", HTTPStatus(error.status))
        page.headers["Retry-After"] = str(error.retry_after_s)
        return page
    return await run_in_threadpool(_log_in, request, context, Shown(key.strip().encode("utf-8", "replace")), target)


@router.post("/logout", dependencies=[CheckedForm])
def log_out(request: Request, context: ContextDep, principal: PrincipalDep) -> Response:
    """End the session of this browser."""
    cookie = request.cookies.get(COOKIE)
    answer = RedirectResponse(f"{request.scope.get('root_path', '')}/", HTTPStatus.SEE_OTHER)
    if cookie and request.state.has_session:
        with context.database.write() as session:
            end_session(session, cookie, principal)
    drop_cookie(answer, request, context.settings)
    return answer


def local_target(target: str, request: Request) -> str:
    """Take an address within this app as it came with a request; the start page for every other.

    Browsers read a backslash as a slash and drop control characters, so neither may be in it.
    """
    start = f"{request.scope.get('root_path', '')}/"
    try:
        parts = urlsplit(target)
    except ValueError:
        return start
    is_local = target.startswith(start) and not target.startswith("//") and not parts.scheme and not parts.netloc
    is_plain = target.isascii() and target.isprintable() and "\\" not in target
    return target if is_local and is_plain else start


def _log_in(request: Request, context: Context, shown: Shown, target: str) -> Response:
    now = utc_now()
    visitor = recognise(shown, context.settings, context.database, now)
    if visitor is None:
        text = "This key is not known, or it has ended."
        page = _render(request, target, text, HTTPStatus.UNAUTHORIZED)
        page.headers["WWW-Authenticate"] = "Bearer"
        return page
    if not visitor.principal.may(Scope.READ):
        return _render(request, target, "This key may not read, so it opens no page.", HTTPStatus.FORBIDDEN)
    return _begin(request, context, visitor, target)


def _begin(request: Request, context: Context, visitor: Visitor, target: str) -> Response:
    now = utc_now()
    old = request.cookies.get(COOKIE)
    with context.database.write() as session:
        if old:
            # Whoever logs in again has one session, not two.
            end_session(session, old, visitor.principal)
        cookie = begin_session(session, visitor.principal, context.settings, now)
    answer = RedirectResponse(local_target(target, request), HTTPStatus.SEE_OTHER)
    set_cookie(answer, request, cookie, context.settings)
    return answer


def _render(request: Request, target: str, fault: str, status: HTTPStatus = HTTPStatus.OK) -> HTMLResponse:
    return render(request, "login.html", status, target=local_target(target, request), fault=fault)
