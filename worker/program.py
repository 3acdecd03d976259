"""The programs that Celery runs: worker, beat and Flower."""

import os

import structlog
from celery.signals import setup_logging, worker_ready, worker_shutting_down

from core.errors import ConfigurationError
from core.lanes import QUEUES
from core.queue import make_celery
from core.settings import Settings
from worker.context import WorkerContext, open_context
from worker.tasks import register_tasks

log = structlog.get_logger()


def run_worker(settings: Settings) -> None:
    """Serve the queues until a signal ends it: SIGTERM lets batches finish within the grace time.

    Raises:
        HistobatchError: the worker cannot start; says why.
    """
    context = open_context(settings)
    app = make_celery(settings)
    register_tasks(app, context)
    _connect_signals(context)
    log.info("engine_chosen", engine=context.engine.name, why=context.choice.why, model=context.model_version)
    try:
        # Threads, not processes: the engine is loaded once, one batch decodes while another infers, and control
        # messages are answered meanwhile. The price is that Celery cannot end a stuck task; leases bound it.
        app.worker_main(
            [
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


def run_beat(settings: Settings) -> None:
    """Ask for reconciliation at intervals until a signal ends it."""
    _keep_logging()
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    app = make_celery(settings)
    # The file remembers the last run; beat is content without it, so that it may lie on scratch storage.
    app.start(["beat", f"--schedule={settings.data_dir / 'beat-schedule'}", "--pidfile=", "--loglevel=WARNING"])


def run_flower(settings: Settings) -> None:
    """Show workers and tasks in Flower, behind a password, until a signal ends it.

    Raises:
        ConfigurationError: no password is set.
    """
    password = settings.flower_password.get_secret_value()
    if not password:
        raise ConfigurationError("HISTOBATCH_FLOWER_PASSWORD must be set: Flower can steer workers")
    # By the environment, because every user of the machine can read a command line.
    os.environ["FLOWER_BASIC_AUTH"] = f"{settings.flower_user}:{password}"
    app = make_celery(settings)
    app.start(["flower", f"--address={settings.flower_host}", f"--port={settings.flower_port}", "--persistent=False"])


def _connect_signals(context: WorkerContext) -> None:
    _keep_logging()

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def announce(**_: object) -> None:
        log.info("worker_ready", worker=context.name)

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def stop(**_: object) -> None:
        context.stop.ask(context.settings.shutdown_grace_s)


def _keep_logging() -> None:
    """Keep Celery from replacing the log format that the command line set up."""

    @setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
    def leave_alone(**_: object) -> None:
        return
