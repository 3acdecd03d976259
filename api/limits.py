"""How much a caller may ask for: requests in a time, and bytes in a body."""

import math
import time
from http import HTTPStatus

from limits import parse
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import ApiError, ProblemReason, error_response

# Counts its own bytes, as they come (HISTOBATCH_MAX_UPLOAD_BYTES).
_UPLOAD = "/v1/submissions/upload"


class Rate:
    """Counts requests of callers in this process' memory.

    Not in the broker: a limit against floods must not need a part that a flood may take down. The price: with several
    API processes a caller has the limit once in each.
    """

    def __init__(self, rate: str) -> None:
        """Take "100/minute" or "off" (core.settings)."""
        self._rate = None if rate == "off" else parse(rate)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def count(self, caller: str) -> None:
        """Count one request.

        Raises:
            ApiError: 429, where the caller asked too often; says when to come back.
        """
        if self._rate is None or await self._limiter.hit(self._rate, caller):
            return
        reset_at, _ = await self._limiter.get_window_stats(self._rate, caller)
        raise ApiError(
            HTTPStatus.TOO_MANY_REQUESTS,
            ProblemReason.TOO_MANY_REQUESTS,
            f"more than {self._rate}: wait as long as Retry-After says",
            retry_after_s=max(1, math.ceil(reset_at - time.time())),
        )


class BodyLimitMiddleware:
    """Refuses a body that is too long, announced or not, before any of it reaches a route."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take the body in, and pass it on if it is short enough."""
        headers = Headers(scope=scope) if scope["type"] == "http" else None
        has_body = headers is not None and ("content-length" in headers or "transfer-encoding" in headers)
        if headers is None or not has_body or local_path(scope) == _UPLOAD:
            await self._app(scope, receive, send)
            return
        try:
            messages = await self._read(headers, receive)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self._app(scope, replay, send)

    async def _read(self, headers: Headers, receive: Receive) -> list[Message]:
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > self._max_bytes:
            raise self._too_large()
        messages: list[Message] = []
        size = 0
        while True:
            message = await receive()
            messages.append(message)
            size += len(message.get("body", b""))
            if size > self._max_bytes:
                raise self._too_large()
            if message["type"] != "http.request" or not message.get("more_body", False):
                return messages

    def _too_large(self) -> ApiError:
        return ApiError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            ProblemReason.BODY_TOO_LARGE,
            f"a body that is no upload may have {self._max_bytes} bytes",
        )


def local_path(scope: Scope) -> str:
    """The address within this app, as the router sees it."""
    return str(scope["path"]).removeprefix(scope.get("root_path", ""))
