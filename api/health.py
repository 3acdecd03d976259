"""Whether this process lives, and whether the parts it needs answer."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Literal

import structlog
from fastapi import APIRouter, Response
from pydantic import BaseModel
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from api.context import Context, ContextDep
from core.activation import find_active_bundle, read_active
from core.bundle import read_usable_manifest
from core.errors import BundleError, PermanentError

log = structlog.get_logger(__name__)
router = APIRouter(tags=["health"])


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class Check(BaseModel):
    """One part that the API needs."""

    name: Literal["database", "queue", "model"]
    ok: bool
    detail: str


class Readiness(BaseModel):
    """All parts, and those that fail by name; "degraded" where the API can do its work all the same."""

    status: Literal["ready", "degraded", "not_ready"]
    failing: list[str]
    checks: list[Check]


class _NotMigrated(PermanentError):
    """The tables have another form than this version expects."""


@router.get("/live")
def live() -> Live:
    """Say that the process answers; looks at nothing else."""
    return Live()


@router.get("/ready", responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": Readiness}})
def ready(context: ContextDep, response: Response) -> Readiness:
    """Ask every part for an answer, and name those that give none.

    503 where the API cannot do its work. Without the broker it can: results are read from the database, and submissions
    are recorded there and sent to workers when the broker is back. An API that orchestrators took out of service for it
    would hide results that are there.
    """
    checks = [
        _check("database", lambda: _ask_database(context), "the database does not answer or is not migrated"),
        _check("queue", context.queue.ping, "the broker does not answer"),
        _check("model", lambda: _ask_model(context), "no model bundle can be read"),
    ]
    failing = [check.name for check in checks if not check.ok]
    if not failing:
        return Readiness(status="ready", failing=[], checks=checks)
    status: Literal["degraded", "not_ready"] = "degraded" if failing == ["queue"] else "not_ready"
    if status == "not_ready":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    log.warning(status, failing=failing)
    return Readiness(status=status, failing=list(failing), checks=checks)


def _ask_database(context: Context) -> None:
    context.database.ping()
    if not context.database.is_current():
        raise _NotMigrated("the tables have another form than this version expects: migrate")


def _ask_model(context: Context) -> None:
    if context.settings.engine == "fake":
        return  # the one engine that needs no model
    try:
        with context.database.read() as session:
            active = read_active(session)
    except SQLAlchemyError:
        # The database's own check says so. Without it nobody knows what was activated: the settings' model is asked.
        active = None
    read_usable_manifest(find_active_bundle(context.settings, active))


def _check(name: Literal["database", "queue", "model"], ask: Callable[[], None], failure: str) -> Check:
    try:
        ask()
    except (SQLAlchemyError, RedisError, BundleError, _NotMigrated, OSError) as error:
        # Anyone may ask here, and drivers put addresses and user names into their messages: only the kind is told.
        return Check(name=name, ok=False, detail=f"{failure} ({type(error).__name__.lstrip('_')})")
    return Check(name=name, ok=True, detail="answers")
