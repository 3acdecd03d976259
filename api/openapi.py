"""What the OpenAPI says of every route alike: who may ask, and what a refusal looks like."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from api.access import OPEN_PATHS
from api.problems import Problem

# Any route may answer so: not let in, asked too often, or the database is away.
_EVERYWHERE = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "the token, or a key"},
    "basic": {"type": "http", "scheme": "basic", "description": "any name, and the token or a key as the password"},
}
_PROBLEM = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
# What FastAPI would answer with, and this app does not.
_UNUSED = ("HTTPValidationError", "ValidationError")


def describe_alike(app: FastAPI) -> None:
    """Complete the app's OpenAPI when it is first asked for: each refusal is a Problem, whatever a success is."""
    make = app.openapi

    def describe() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(make())
        return make()

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way to extend it


def _complete(document: dict[str, Any]) -> None:
    components = document["components"]
    for name in _UNUSED:
        components["schemas"].pop(name, None)
    components["schemas"]["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = components.get("securitySchemes", {}) | _SCHEMES
    for path, operations in document["paths"].items():
        for operation in operations.values():
            _add_refusals(operation, is_open=path in OPEN_PATHS)


def _add_refusals(operation: dict[str, Any], *, is_open: bool) -> None:
    responses = operation["responses"]
    statuses = [] if is_open else [*_EVERYWHERE]
    if "requestBody" in operation:
        statuses += (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    for status in statuses:
        responses.setdefault(str(int(status)), {"description": status.phrase})
    for code, response in responses.items():
        # /ready says with its own body what is not ready.
        if int(code) >= HTTPStatus.BAD_REQUEST and not is_open:
            response["content"] = _PROBLEM
    if not is_open:
        operation["security"] = [{name: []} for name in _SCHEMES]
