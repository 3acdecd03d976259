"""One shape for everything that goes wrong: {"reason": a constant code, "detail": a sentence for people}."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from core.errors import FolderError, HistobatchError, Reason

log = structlog.get_logger(__name__)


class ProblemReason(StrEnum):
    """Reason codes of the API's own; those of core.errors.Reason come on top."""

    UNAUTHORIZED = "unauthorized"
    ORIGIN_REFUSED = "origin_refused"
    HOST_REFUSED = "host_refused"
    SCOPE_MISSING = "scope_missing"
    CSRF_REFUSED = "csrf_refused"
    TOO_MANY_REQUESTS = "too_many_requests"
    BODY_TOO_LARGE = "body_too_large"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    REQUEST_INVALID = "request_invalid"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    ALREADY_ENDED = "already_ended"
    NOT_WAITING = "not_waiting"
    ARCHIVE_EXISTS = "archive_exists"
    DEFINED_BY_FILE = "defined_by_file"
    SCAN_RUNNING = "scan_running"
    NOTHING_TO_REVIEW = "nothing_to_review"
    BUNDLE_REFUSED = "bundle_refused"
    NO_EARLIER_MODEL = "no_earlier_model"
    MODEL_CHANGED = "model_changed"
    UPLOAD_TOO_LARGE = "upload_too_large"
    STORAGE_FAILED = "storage_failed"
    NOT_INSTALLED = "not_installed"
    TOO_BUSY = "too_busy"
    DATABASE_UNAVAILABLE = "database_unavailable"
    INTERNAL = "internal"


class Problem(BaseModel):
    """The body of every answer that is not a success."""

    reason: str
    detail: str


class ApiError(HistobatchError):
    """A request that gets a problem body instead of what it asked for.

    Attributes:
        retry_after_s: seconds after which the same request may succeed; None where it will not by itself.
    """

    def __init__(
        self, status: int, reason: ProblemReason | Reason, detail: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after_s = retry_after_s


def not_found(what: str) -> ApiError:
    """Make the error for something that is not there."""
    return ApiError(HTTPStatus.NOT_FOUND, ProblemReason.NOT_FOUND, f"there is no such {what}")


def folder_refused(error: FolderError) -> ApiError:
    """Make the error for a folder that may not be read (403) or is not there (404)."""
    missing = error.reason == Reason.FOLDER_MISSING
    return ApiError(HTTPStatus.NOT_FOUND if missing else HTTPStatus.FORBIDDEN, error.reason, error.detail)


def problem_response(status: int, reason: str, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Make an answer with a problem body."""
    return JSONResponse(Problem(reason=reason, detail=detail).model_dump(), status_code=status, headers=headers)


def add_problem_handlers(app: FastAPI) -> None:
    """Give every error of the app the one shape."""
    app.add_exception_handler(ApiError, _on_api_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(OperationalError, _on_database_down)
    app.add_exception_handler(Exception, _on_defect)


def error_response(error: ApiError) -> JSONResponse:
    """Make the answer that says an error."""
    headers = None if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    return problem_response(error.status, error.reason, error.detail, headers)


def _on_api_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101 - registered for this class only
    return error_response(error)


def _on_invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = [
        f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    ]
    return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, ProblemReason.REQUEST_INVALID, "; ".join(faults))


def _on_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    known = {
        HTTPStatus.NOT_FOUND: (ProblemReason.NOT_FOUND, "there is nothing at this address; see /docs"),
        HTTPStatus.METHOD_NOT_ALLOWED: (ProblemReason.METHOD_NOT_ALLOWED, "this address has no such method; see /docs"),
    }
    status = HTTPStatus(error.status_code)
    reason, detail = known.get(status, (ProblemReason.REQUEST_INVALID, str(error.detail)))
    return problem_response(status, reason, detail, error.headers)


def database_away(error: Exception) -> ApiError:
    """Make the error of a database that does not answer."""
    log.error("database_unavailable", error=type(error).__name__)
    return ApiError(
        HTTPStatus.SERVICE_UNAVAILABLE,
        ProblemReason.DATABASE_UNAVAILABLE,
        "the database does not answer; try again, and see /ready",
        retry_after_s=5,
    )


def _on_database_down(_request: Request, error: Exception) -> Response:
    return error_response(database_away(error))


def _on_defect(_request: Request, error: Exception) -> Response:
    # The traceback is logged by the server; its text may name files, so it is not repeated here.
    log.error("request_failed", error=type(error).__name__)
    return problem_response(
        HTTPStatus.INTERNAL_SERVER_ERROR, ProblemReason.INTERNAL, "a defect of histobatch; the server's log has more"
    )
