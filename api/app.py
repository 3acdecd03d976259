"""The API's composition: one FastAPI app from settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from api import health, metrics, pages
from api.access import AccessMiddleware
from api.answers import AnswerMiddleware
from api.context import Context
from api.problems import add_problem_handlers
from api.routes import items, results, submissions, uploads
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
        context = Context(settings, Database(settings.database), WorkQueue(settings))
        app.state.context = context
        try:
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
    for module in (uploads, submissions, items, results, health, metrics, pages):
        app.include_router(module.router)
    add_problem_handlers(app)
    # The last one added is the outermost: refusals carry the notice, too.
    app.add_middleware(AccessMiddleware, token=settings.api_token.get_secret_value())
    app.add_middleware(AnswerMiddleware)
    return app
