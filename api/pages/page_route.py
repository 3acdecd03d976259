"""What all pages share: they are no part of the API's schema, ask for the right to read, and refuse with a page."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from fastapi.routing import APIRoute

from api.problems import ApiError
from api.rendering import render
from api.rights import needs
from core.access import Scope

_TITLES = {
    HTTPStatus.FORBIDDEN: "Not allowed",
    HTTPStatus.NOT_FOUND: "Not found",
    HTTPStatus.CONFLICT: "Not now",
    HTTPStatus.INSUFFICIENT_STORAGE: "No room",
}


class PageRoute(APIRoute):
    """A route whose refusals are pages for people instead of JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap what answers a request."""
        handle = super().get_route_handler()

        async def handle_page(request: Request) -> Response:
            try:
                return await handle(request)
            except ApiError as error:
                return _show_problem(request, HTTPStatus(error.status), error.detail, error.retry_after_s)
            except RequestValidationError as error:
                faults = "; ".join(f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors())
                return _show_problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, faults, None)

        return handle_page


def make_router() -> APIRouter:
    """Make a router of pages that ask for the right to read."""
    return APIRouter(
        include_in_schema=False,
        default_response_class=HTMLResponse,
        dependencies=[needs(Scope.READ)],
        route_class=PageRoute,
    )


def _show_problem(request: Request, status: HTTPStatus, detail: str, retry_after_s: int | None) -> Response:
    page = render(request, "problem.html", status, title=_TITLES.get(status, "That did not work"), detail=detail)
    if retry_after_s is not None:
        page.headers["Retry-After"] = str(retry_after_s)
    return page
