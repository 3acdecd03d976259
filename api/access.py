"""Who may ask: the token, and the guard against other web sites that use a person's browser as a way in."""

import base64
import binascii
import hmac
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from api.context import ANONYMOUS
from api.problems import ProblemReason, problem_response

# Probes of an orchestrator carry no token, and learn nothing but names of parts.
OPEN_PATHS = frozenset({"/live", "/ready"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="histobatch", charset="UTF-8", Bearer'}


@dataclass(frozen=True)
class _Refusal:
    status: HTTPStatus
    reason: ProblemReason
    detail: str


class AccessMiddleware:
    """Lets a request through when it shows the token, and remembers its user name for the audit.

    Without a token the API listens on loopback only, where every program of this machine may ask, but no web site:
    a page that a browser on this machine shows could otherwise reach it by DNS rebinding (so the Host must be a
    loopback name) or post a form to it (so a foreign Origin may not change anything, token or not).
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with a problem."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refuse(scope["method"], headers, scope)
        if refusal is None:
            await self._app(scope, receive, send)
            return
        challenge = _CHALLENGE if refusal.status == HTTPStatus.UNAUTHORIZED else None
        response = problem_response(refusal.status, refusal.reason, refusal.detail, challenge)
        await response(scope, receive, send)

    def _refuse(self, method: str, headers: Headers, scope: Scope) -> _Refusal | None:
        if method not in _SAFE_METHODS and _is_foreign(headers):
            return _Refusal(HTTPStatus.FORBIDDEN, ProblemReason.ORIGIN_REFUSED, "other web sites may not change things")
        if not self._token:
            if _host_name(headers) not in _LOOPBACK_NAMES:
                return _Refusal(
                    HTTPStatus.FORBIDDEN,
                    ProblemReason.HOST_REFUSED,
                    "without HISTOBATCH_API_TOKEN only this machine may ask, by the name 127.0.0.1 or localhost",
                )
            return None
        name, secret = _credentials(headers.get("authorization", ""))
        if hmac.compare_digest(secret, self._token):
            scope.setdefault("state", {})["submitter"] = name
            return None
        return _Refusal(
            HTTPStatus.UNAUTHORIZED,
            ProblemReason.UNAUTHORIZED,
            "send 'Authorization: Bearer TOKEN', or HTTP Basic with the token as the password",
        )


def _credentials(header: str) -> tuple[str, bytes]:
    """Take the user name and the secret out of an Authorization header; empty where there is none."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() == "bearer":
        return ANONYMOUS, value.strip().encode()
    if scheme.lower() != "basic":
        return ANONYMOUS, b""
    try:
        user, _, password = base64.b64decode(value, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return ANONYMOUS, b""
    name = "".join(character for character in user.decode("utf-8", "replace") if character.isprintable())
    return name[:100] or ANONYMOUS, password


def _is_foreign(headers: Headers) -> bool:
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != headers.get("host", "")


def _host_name(headers: Headers) -> str:
    try:
        return urlsplit(f"//{headers.get('host', '')}").hostname or ""
    except ValueError:
        return ""
