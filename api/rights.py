"""Which right a route asks for: `dependencies=[needs(Scope.SUBMIT)]` on the route or its router."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request

from api.problems import ApiError, ProblemReason
from core.access import Principal, Scope


def get_principal(request: Request) -> Principal:
    """Hand out who asks, as AccessMiddleware found out."""
    principal = request.state.principal
    assert isinstance(principal, Principal)  # noqa: S101 - the middleware lets no request through without
    return principal


PrincipalDep = Annotated[Principal, Depends(get_principal)]


class Right:
    """A dependency that lets only those through who hold a scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    def __call__(self, principal: PrincipalDep) -> None:
        """Refuse with 403 where the right is missing."""
        if not principal.may(self.scope):
            raise ApiError(
                HTTPStatus.FORBIDDEN, ProblemReason.SCOPE_MISSING, f"{principal.name} lacks the scope {self.scope}"
            )


def needs(scope: Scope) -> Any:
    """Make the dependency of a route that needs a scope."""
    check: Callable[..., None] = Right(scope)
    return Depends(check)
