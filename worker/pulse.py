"""The worker's pulse: threads that keep its leases, take those of dead workers, and look after the process.

They need no beat, and leases no broker, so that dead workers and lost work are noticed whatever else is down.
"""

import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy import update
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import col, select

from core.database import execute_dml
from core.queue import BrokerAway
from core.states import BatchState, SubmissionState
from core.tables import Batch, Submission
from worker.context import WorkerContext
from worker.dispatch import top_up
from worker.health import write_health
from worker.holdings import Holding
from worker.presence import Presence
from worker.reconcile import reconcile
from worker.recovery import expire_batch, expire_listing
from worker.silence import SilenceWatch
from worker.watchdog import Watchdog

log = structlog.get_logger()

# Heartbeats in the time of one lease.
_BEATS = 4
# Intervals of beat that a process waits for to be asked.
_UNASKED = 3


class Pulse:
    """Beats until it is stopped.

    Each of its concerns has a thread, because a broker or a lock that lets one wait must not silence the heart.
    """

    def __init__(self, context: WorkerContext, watchdog: Watchdog) -> None:
        self._context = context
        self._watchdog = watchdog
        self._watch = SilenceWatch(context.settings.lease_s)
        self._presence = Presence(context)
        self._database_answered = False
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._repeat, args=(concern,), name=concern.__name__, daemon=True)
            for concern in (
                self.beat,
                self.watch_others,
                self.look_after_process,
                self.look_for_lost_work,
                self.say_present,
            )
        ]

    def start(self) -> None:
        """Begin to beat."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Beat no more, and be no longer present."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
        self._presence.end()

    def beat(self) -> None:
        """Say of every lease that it is held."""
        self._watchdog.look_at_progress()
        self._database_answered = False
        self._context.database.ping()
        for holding in self._context.holdings.all():
            self._extend(holding)
        self._database_answered = True

    def watch_others(self) -> None:
        """Take the leases of workers that fell silent."""
        # A transaction that could write: where nobody can, as with a SQLite file that another program holds, hearts
        # beat unheard, and whoever went on looking would take them for dead.
        with self._context.database.write() as session:
            batches = session.exec(
                select(Batch.lease_token, Batch.heartbeats).where(Batch.state == BatchState.RUNNING)
            ).all()
            listings = session.exec(
                select(Submission.lease_token, Submission.heartbeats).where(Submission.state == SubmissionState.LISTING)
            ).all()
        heartbeats = {str(token): count for token, count in [*batches, *listings]}
        is_listing = {str(token) for token, _ in listings}
        silent = self._watch.look(heartbeats, time.monotonic())
        for token in is_listing.intersection(silent):
            expire_listing(self._context, token, heartbeats[token])
        lanes = [expire_batch(self._context, token, heartbeats[token]) for token in silent if token not in is_listing]
        # Last, because the broker may keep one waiting.
        for lane in {lane for lane in lanes if lane is not None}:
            top_up(self._context, lane)

    def look_after_process(self) -> None:
        """End a process that is of no use any more, and say of the others that they are well."""
        try:
            waiting = sum(self._context.queue.depths().values())
        except BrokerAway:
            waiting = None
        self._watchdog.look_at_traffic(waiting)
        self._watchdog.look_at_memory()
        if waiting is not None and self._database_answered:
            write_health(self._context)

    def look_for_lost_work(self) -> None:
        """Reconcile where nobody asked this process to for long: beat may be down, or live by a clock that jumped."""
        if self._context.rounds.begin(after_s=_UNASKED * self._context.settings.reconcile_every_s):
            reconcile(self._context)

    def say_present(self) -> None:
        """Say that this worker is there and what it serves, where that is news or was said long ago."""
        self._presence.say()

    def _repeat(self, concern: Callable[[], None]) -> None:
        while not self._stopped.wait(self._context.settings.lease_s / _BEATS):
            try:
                concern()
            except SQLAlchemyError as error:
                # While the database is away, nobody else can take a lease, either. And where it can be read but not
                # written, as on a full disk, hearts beat unheard: the watch over them begins anew.
                self._watch.forget()
                log.warning("database_away", error=type(error).__name__)
            except Exception:
                # The edge of the thread: without its pulse the worker would lose every batch that it takes.
                log.exception("pulse_failed")

    def _extend(self, holding: Holding) -> None:
        table, state = (Batch, BatchState.RUNNING) if holding.kind == "batch" else (Submission, SubmissionState.LISTING)
        mine = (col(table.id) == holding.id, col(table.lease_token) == holding.token, col(table.state) == state)
        with self._context.database.write() as session:
            held = execute_dml(session, update(table).where(*mine).values(heartbeats=col(table.heartbeats) + 1))
        holding.is_lost = not held
