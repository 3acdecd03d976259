"""What the routes work with, made once in the app's lifespan, and the dependencies that hand it to them."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.batch_totals import BatchTotals
from api.events import Events
from api.limits import Rate
from api.occlusion import Occlusion
from api.reads import Reader, Reads
from api.rights import PrincipalDep
from api.thumbnails import Thumbnails
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
    thumbnails: Thumbnails
    occlusion: Occlusion
    events: Events
    batch_totals: BatchTotals
    logins: Rate
    reads: Reads


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


def get_submitter(principal: PrincipalDep) -> str:
    """Name who asks, as far as is known: the key's name, the Basic user name beside the token, or "api"."""
    return principal.name


def get_reader(context: Annotated[Context, Depends(get_context)], principal: PrincipalDep) -> Reader:
    """Hand out who asks as one to whom results are shown: routes that show some tell it before they answer."""
    return Reader(principal, context.reads)


ContextDep = Annotated[Context, Depends(get_context)]
DatabaseDep = Annotated[Database, Depends(get_database)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
SubmitterDep = Annotated[str, Depends(get_submitter)]
ReaderDep = Annotated[Reader, Depends(get_reader)]
