"""What every answer carries: the notice, security headers, a request id; and the line it leaves in the log."""

import re
import time
from secrets import token_hex
from typing import Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.web_sessions import is_https
from core.bundle import NOTICE
from core.settings import Settings

log = structlog.get_logger(__name__)

_SELF_ONLY: Final = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
# What pages need of a browser beside showing themselves: nothing.
_NO_FEATURES: Final = ", ".join(
    f"{name}=()" for name in ("camera", "geolocation", "microphone", "payment", "usb", "serial", "display-capture")
)
_A_YEAR_S: Final = 365 * 24 * 3600
# Swagger's page starts itself with an inline script and styles.
_DOCS: Final = f"{_SELF_ONLY}; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; worker-src blob:"
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class AnswerMiddleware:
    """Adds headers to every answer and logs each request by its route, never by its address.

    An address may hold what a person typed; a route template such as /v1/submissions/{submission_id} does not.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        elapsed_s = None
        request_id = _request_id(Headers(scope=scope))
        status = 500

        async def send_with_headers(message: Message) -> None:
            nonlocal status, elapsed_s
            if message["type"] == "http.response.start":
                status = message["status"]
                answered = MutableHeaders(scope=message)
                _add_headers(answered, scope["path"], request_id)
                if is_https(scope.get("scheme"), self._settings):
                    answered["Strict-Transport-Security"] = f"max-age={_A_YEAR_S}"
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                # Work that goes on behind the answer (telling the broker) keeps nobody waiting.
                elapsed_s = time.perf_counter() - started

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_headers)
            finally:
                route = scope.get("route")
                log.info(
                    "request_handled",
                    method=scope["method"],
                    route=getattr(route, "path", None),
                    status=int(status),
                    elapsed_ms=round((elapsed_s or time.perf_counter() - started) * 1e3, 1),
                )


def _request_id(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else token_hex(8)


def _add_headers(headers: MutableHeaders, path: str, request_id: str) -> None:
    headers["X-Notice"] = NOTICE
    headers["X-Request-ID"] = request_id
    headers["X-Content-Type-Options"] = "nosniff"
    # "no-referrer" would also hide from ourselves that a form comes from our own page (Fetch: Origin becomes null).
    headers["Referrer-Policy"] = "same-origin"
    headers["Permissions-Policy"] = _NO_FEATURES
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    # A report says itself that it needs nothing but what is in it.
    headers.setdefault("Content-Security-Policy", _DOCS if path == "/docs" else _SELF_ONLY)
    if not path.startswith("/static"):
        # Results are about patients: no proxy and no browser keeps a copy.
        headers.setdefault("Cache-Control", "no-store")
