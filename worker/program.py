"""The worker program."""

import os

import structlog
from celery.signals import worker_ready, worker_shutting_down

from core.lanes import QUEUES
from core.queue import make_celery
from core.settings import Settings
from worker.companions import keep_logging
from worker.context import WorkerContext, open_context
from worker.tasks import register_tasks

log = structlog.get_logger()


def run_worker(settings: Settings) -> None:
    """Serve the queues until a signal ends it: SIGTERM lets batches finish within the grace time.

    Raises:
        HistobatchError: the worker cannot start; says why.
    """
    context = open_context(settings)
    context.decoders.warm_up()
    app = make_celery(settings)
    register_tasks(app, context)
    _connect_signals(context)
    log.info("engine_chosen", engine=context.engine.name, why=context.choice.why, model=context.model_version)
    try:
        # Threads, not processes: the engine is loaded once, one batch decodes while another infers, and control
        # messages are answered meanwhile. The price is that Celery cannot end a stuck task; leases bound it.
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=threads",
                f"--concurrency={settings.worker_concurrency}",
                f"--queues={','.join(QUEUES)}",
                f"--hostname=histobatch-{os.getpid()}@%h",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=WARNING",
            ]
        )
    finally:
        context.close()


def _connect_signals(context: WorkerContext) -> None:
    keep_logging()

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def announce(**_: object) -> None:
        log.info("worker_ready", worker=context.name)

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def stop(**_: object) -> None:
        context.stop.ask(context.settings.shutdown_grace_s)
