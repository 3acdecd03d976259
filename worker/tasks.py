"""Celery's tasks: thin shells that turn a message into a call."""

import random
from collections.abc import Callable

import structlog
from celery import Celery, Task
from sqlalchemy.exc import OperationalError

from core.errors import HistobatchError
from core.lanes import CLASSIFY_TASK, INTAKE_TASK, RECONCILE_TASK
from worker.classify import classify_batch
from worker.context import WorkerContext
from worker.intake import take_in
from worker.reconcile import reconcile

log = structlog.get_logger()

# The database may be away for a moment. What still fails after these tries waits for the reconciler.
_MAX_RETRIES = 3
_RETRY_S = 2.0


def register_tasks(app: Celery, context: WorkerContext) -> None:
    """Bind the tasks to this worker's parts."""

    def task(name: str, work: Callable[..., None]) -> None:
        @app.task(name=name, bind=True, max_retries=_MAX_RETRIES)  # type: ignore[untyped-decorator]
        def run(self: Task, *subject: str | int) -> None:
            try:
                work(context, *subject)
            except OperationalError as error:
                log.warning("database_away", task=name, subject=subject, error=type(error.orig).__name__)
                delay_s = _RETRY_S * 2**self.request.retries * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                raise self.retry(countdown=delay_s, exc=error) from error
            except HistobatchError as error:
                # Recorded or handed back already; the message has done its duty.
                log.error("task_failed", task=name, subject=subject, error=str(error))

    task(INTAKE_TASK, take_in)
    task(CLASSIFY_TASK, classify_batch)
    task(RECONCILE_TASK, reconcile)
