"""What the routes work with, made once in the app's lifespan, and the dependencies that hand it to them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from core.database import Database
from core.queue import WorkQueue
from core.settings import Settings

ANONYMOUS = "api"


@dataclass(frozen=True)
class Context:
    """The open parts of one running app."""

    settings: Settings
    database: Database
    queue: WorkQueue


def get_context(request: Request) -> Context:
    """Hand out the running app's parts."""
    context = request.app.state.context
    assert isinstance(context, Context)  # noqa: S101 - set by the lifespan, before any request
    return context


def get_database(context: Annotated[Context, Depends(get_context)]) -> Database:
    """Hand out the database."""
    return context.database


def get_settings(context: Annotated[Context, Depends(get_context)]) -> Settings:
    """Hand out the settings."""
    return context.settings


def get_submitter(request: Request) -> str:
    """Name who asks, as far as is known: the Basic user name, or "api"."""
    return str(getattr(request.state, "submitter", ANONYMOUS))


ContextDep = Annotated[Context, Depends(get_context)]
DatabaseDep = Annotated[Database, Depends(get_database)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
SubmitterDep = Annotated[str, Depends(get_submitter)]
