"""The worker program."""

import os
import signal
import sys
from functools import partial

import structlog
from celery.signals import worker_ready, worker_shutting_down

from core.lanes import QUEUES, Lane
from core.presence import WorkerState
from core.queue import make_celery
from core.settings import Settings
from worker.companions import keep_logging
from worker.context import WorkerContext, open_context
from worker.dispatch import top_up
from worker.pulse import Pulse
from worker.tasks import register_tasks
from worker.watchdog import Watchdog

log = structlog.get_logger()


def run_worker(settings: Settings) -> None:
    """Serve the queues until a signal ends it: SIGTERM lets batches finish within the grace time.

    Raises:
        HistobatchError: the worker cannot start; says why.
    """
    # Celery takes the signal over when it is ready; until then it ends the process as cleanly.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    context = open_context(settings)
    context.decoders.warm_up()
    app = make_celery(settings)
    watchdog = Watchdog(context)
    register_tasks(app, context, watchdog)
    pulse = Pulse(context, watchdog)
    _connect_signals(context)
    if (serving := context.slot.current) is not None:
        log.info("engine_chosen", engine=serving.engine.name, why=serving.choice.why, model=serving.model_version)
    try:
        # Threads, not processes: the engine is loaded once, one batch decodes while another infers, and control
        # messages are answered meanwhile. The price is that Celery cannot end a stuck task; the watchdog does.
        pulse.start()
        context.rollout.start(partial(_announce_model, context, pulse))
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
        # First the leases' end: whoever lists a folder still needs its pulse.
        context.close_listers()
        context.rollout.stop()
        pulse.stop()
        context.close()


def _announce_model(context: WorkerContext, pulse: Pulse) -> None:
    """Say what serves from now on, and ask for the batches that were left while nothing did."""
    pulse.say_present()
    if context.slot.state is WorkerState.SERVING:
        for lane in Lane:
            top_up(context, lane)


def _connect_signals(context: WorkerContext) -> None:
    keep_logging()

    @worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
    def announce(**_: object) -> None:
        log.info("worker_ready", worker=context.name)

    @worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
    def stop(**_: object) -> None:
        context.stop.ask(context.settings.shutdown_grace_s)
