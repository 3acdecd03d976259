"""Every route says which right it asks for."""

from collections.abc import Iterator

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.routing import BaseRoute

from api.app import create_app
from api.rights import Right
from core.access import Scope
from core.settings import Settings

# Where no scope is asked for, and why.
_NO_SCOPE = {
    "/live": "probes of an orchestrator carry no key, and learn only that the process answers",
    "/ready": "probes of an orchestrator carry no key, and learn only names of parts",
    "/docs": "whoever has any key may read how the API is used; the page shows no data",
    "/docs/oauth2-redirect": "a part of /docs",
    "/openapi.json": "whoever has any key may read how the API is used",
    "/login": "whoever asks there has no key yet; tries are limited",
    "/logout": "whoever has a session may end it; its form is checked",
    "/static": "files that come with the package and that the log-in page shows",
    "/static/docs": "files that come with a package",
}
_CHANGES = {"POST", "PUT", "PATCH", "DELETE"}


def _scopes(dependant: Dependant) -> Iterator[Scope]:
    if isinstance(dependant.call, Right):
        yield dependant.call.scope
    for inner in dependant.dependencies:
        yield from _scopes(inner)


def _routes() -> Iterator[tuple[str, BaseRoute]]:
    for context in iter_route_contexts(create_app(Settings()).routes):
        yield str(context.path), context.original_route


def test_every_route_asks_for_a_right() -> None:
    """A route without one would be open to every key; those that may be are listed above with the reason."""
    open_to_all = set()
    for path, route in _routes():
        if not isinstance(route, APIRoute) or not list(_scopes(route.dependant)):
            open_to_all.add(path)
    assert open_to_all == set(_NO_SCOPE)


def test_what_changes_something_asks_for_more_than_reading() -> None:
    """A key that may only read hands in, cancels and changes nothing."""
    changing = [
        route
        for path, route in _routes()
        if isinstance(route, APIRoute) and route.methods & _CHANGES and path not in _NO_SCOPE
    ]
    assert changing
    assert [route.path for route in changing if set(_scopes(route.dependant)) <= {Scope.READ}] == []


def test_archives_and_lanes_are_changed_by_admins_only() -> None:
    """What holds for everybody's work is not a submitter's to change."""
    owned = {
        route.path: set(_scopes(route.dependant))
        for path, route in _routes()
        if isinstance(route, APIRoute)
        and route.methods & _CHANGES
        and path.startswith(("/v1/archives", "/v1/lanes"))
        and not path.endswith("/scans")
    }
    assert len(owned) >= 4
    assert set(map(frozenset, owned.values())) == {frozenset({Scope.ADMIN})}
