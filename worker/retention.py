"""Take, or anonymise, what is older than the settings let it be kept; in a thread of its own, once an hour."""

import threading
from datetime import timedelta

import structlog
from sqlalchemy.exc import OperationalError

from core.retention import Action, Expired, purge
from core.tables import utc_now
from worker.context import WorkerContext

log = structlog.get_logger()

BY_RETENTION = "retention"
_EVERY_S = 3600


def purge_expired(context: WorkerContext) -> None:
    """Begin a purge if the settings ask for one and the last is an hour ago; returns at once.

    Several workers may purge at once: of one submission's images each step is done by one of them.
    """
    if context.settings.retention_days and context.purges.begin(after_s=_EVERY_S):
        # A daemon: at the process' end nobody waits for it, and the next purge goes on.
        threading.Thread(target=_purge, args=(context,), name="retention", daemon=True).start()


def _purge(context: WorkerContext) -> None:
    settings = context.settings
    before = utc_now() - timedelta(days=settings.retention_days)
    expired = Expired(Action(settings.retention_action), before=before)
    try:
        done = purge(context.database, expired, BY_RETENTION, should_stop=lambda: context.stop.is_asked)
    except OperationalError as error:
        log.warning("database_away", task="retention", error=type(error.orig).__name__)
        return
    if done.submissions or done.names:
        counts = {"submissions": done.submissions, "images": done.images, "results": done.results, "names": done.names}
        log.info("retention_done", action=expired.action.value, **counts)
