"""Celery's tasks: thin shells that turn a message into a call."""

from collections.abc import Callable
from functools import partial

import structlog
from celery import Celery
from sqlalchemy.exc import OperationalError

from core.errors import HistobatchError
from core.lanes import CLASSIFY_TASK, INTAKE_TASK, RECONCILE_TASK
from worker.classify import EngineBroken, classify_batch
from worker.context import WorkerContext
from worker.intake import begin_listing
from worker.messages import STRATEGY
from worker.reconcile import reconcile
from worker.watchdog import Watchdog

log = structlog.get_logger()


def register_tasks(app: Celery, context: WorkerContext, watchdog: Watchdog) -> None:
    """Bind the tasks to this worker's parts."""

    def guard(task: str, subject: object, work: Callable[[], None]) -> None:
        try:
            work()
        except OperationalError as error:
            # It was tried again for long enough. The message is done for: reconcile misses it, and sends another.
            log.warning("database_away", task=task, subject=subject, error=type(error.orig).__name__)
        except EngineBroken as error:
            watchdog.end_process("engine_broken", error=str(error))
        except HistobatchError as error:
            # Recorded or handed back already; the message has done its duty.
            log.error("task_failed", task=task, subject=subject, error=str(error))

    def register(name: str, work: Callable[..., None]) -> None:
        @app.task(name=name, Strategy=STRATEGY)  # type: ignore[untyped-decorator]
        def run(*subject: str | int) -> None:
            with context.traffic.message():
                guard(name, subject, lambda: work(*subject))

    def intake(submission_id: str) -> None:
        begin_listing(context, submission_id, partial(guard, INTAKE_TASK, submission_id))

    register(INTAKE_TASK, intake)
    register(CLASSIFY_TASK, partial(classify_batch, context))

    def look() -> None:
        # Messages pile up while no worker is there: one look answers all of them.
        if context.rounds.begin(after_s=context.settings.reconcile_every_s / 2):
            reconcile(context)

    register(RECONCILE_TASK, look)
