"""The API's composition: one FastAPI app from settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from api import health, login, metrics, pages
from api.access import AccessMiddleware
from api.answers import AnswerMiddleware
from api.batch_totals import BatchTotals
from api.context import Context
from api.events import Events
from api.forgotten import deleting_forgotten_files
from api.leftovers import delete_leftovers
from api.limits import BodyLimitMiddleware, Rate
from api.occlusion import Occlusion
from api.openapi import describe_alike
from api.problems import add_problem_handlers
from api.reads import Reads
from api.routes import (
    archives,
    audit,
    events,
    items,
    lanes,
    models,
    patients,
    reports,
    results,
    reviews,
    scans,
    status,
    submissions,
    thumbnails,
    uploads,
    workers,
)
from api.thumbnails import Thumbnails
from core.bundle import NOTICE
from core.database import Database
from core.queue import WorkQueue
from core.settings import Settings

_STATIC = Path(__file__).parent / "static"
_DESCRIPTION = f"Classifies breast histology images in bulk. **{NOTICE}**"


def create_app(settings: Settings) -> FastAPI:
    """Make the app. Nothing connects before it starts; it closes what it opened when it stops.

    The database must have been migrated by whoever runs the app; /ready tells when it was not.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        settings.uploads_dir.mkdir(parents=True, exist_ok=True)
        delete_leftovers(settings.uploads_dir)
        database = Database(settings.database)
        thumbnails = Thumbnails(settings)
        context = Context(
            settings=settings,
            database=database,
            queue=WorkQueue(settings),
            thumbnails=thumbnails,
            occlusion=Occlusion(settings, thumbnails),
            events=Events(database),
            batch_totals=BatchTotals(),
            logins=Rate(settings.login_limit),
            reads=Reads(database),
        )
        app.state.context = context
        try:
            async with deleting_forgotten_files(context):
                yield
        finally:
            context.queue.close()
            context.database.close()

    # The browsable documentation comes with its scripts, because a hospital's network reaches no CDN.
    app = FastAPIOffline(
        title="histobatch",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        static_url="/static/docs",
        # ReDoc's page loads its maker's logo from elsewhere.
        redoc_url=None,
        swagger_ui_parameters={"tryItOutEnabled": True},
    )
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
    # More specific first: /v1/submissions/upload before /v1/submissions/{submission_id}.
    for module in (
        uploads,
        submissions,
        archives,
        scans,
        items,
        patients,
        thumbnails,
        reports,
        events,
        lanes,
        models,
        workers,
        audit,
        status,
        results,
        reviews,
        health,
        metrics,
        login,
        pages,
    ):
        app.include_router(module.router)
    describe_alike(app)
    add_problem_handlers(app)
    # The last one added is the outermost: refusals carry the notice, too.
    app.add_middleware(BodyLimitMiddleware, max_bytes=settings.max_body_bytes)
    app.add_middleware(AccessMiddleware, settings=settings)
    app.add_middleware(AnswerMiddleware, settings=settings)
    return app
