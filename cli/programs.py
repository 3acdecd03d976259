"""Commands that run the long-lived programs in the foreground."""

import uvicorn

from core.database import Database
from core.log import configure_logging
from core.settings import Settings, read_settings


def worker() -> None:
    """Classify what the queues hold, until stopped."""
    settings = _start()
    from worker.program import run_worker  # noqa: PLC0415 - heavy: the engine

    run_worker(settings)


def beat() -> None:
    """Ask the workers at intervals to look for lost work, until stopped. Run one."""
    settings = _start()
    from worker.program import run_beat  # noqa: PLC0415

    run_beat(settings)


def flower() -> None:
    """Show workers and tasks in Flower, until stopped."""
    settings = _start()
    from worker.program import run_flower  # noqa: PLC0415

    run_flower(settings)


def api() -> None:
    """Serve the HTTP API and the status pages, until stopped."""
    settings = _start()
    from api.app import create_app  # noqa: PLC0415

    uvicorn.run(create_app(settings), host=settings.api_host, port=settings.api_port, log_config=None, access_log=False)


def migrate() -> None:
    """Bring the database's tables to the form that this version expects."""
    settings = _start()
    database = Database(settings.database)
    database.migrate()
    database.close()


def _start() -> Settings:
    settings = read_settings()
    configure_logging(settings.log_format)
    return settings
