"""Deleting the uploaded files and thumbnails that retention took: often only the API may write where they lie."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from api.context import Context
from core.forgotten_pictures import delete_forgotten_pictures
from core.uploads import delete_forgotten_uploads

log = structlog.get_logger(__name__)

_EVERY_S = 3600


@asynccontextmanager
async def deleting_forgotten_files(context: Context) -> AsyncIterator[None]:
    """Look at once and then every hour, until the block ends."""
    task = asyncio.create_task(_repeat(context))
    try:
        yield
    finally:
        task.cancel()


async def _repeat(context: Context) -> None:
    while True:
        await run_in_threadpool(_look, context)
        await asyncio.sleep(_EVERY_S)


def _look(context: Context) -> None:
    settings = context.settings
    try:
        uploads = delete_forgotten_uploads(context.database, settings.uploads_dir)
        pictures = delete_forgotten_pictures(context.database, settings.thumbnails_dir)
    except SQLAlchemyError as error:
        # Tables that are not there yet, or a database that is away: the next look is soon enough.
        log.warning("forgotten_files_not_looked_for", error=type(error).__name__)
        return
    if uploads or pictures:
        log.info("forgotten_files_deleted", uploads=uploads, pictures=pictures)
