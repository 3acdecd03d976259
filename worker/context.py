"""What a worker process holds while it runs: built once, handed to every task."""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime

from core.database import Database
from core.pressure import Gauge
from core.queue import WorkQueue
from core.settings import Settings
from core.tables import utc_now
from worker.decoding import DecodePool
from worker.holdings import Holdings
from worker.isolation import Isolation
from worker.listers import Listers
from worker.rollout import Rollout
from worker.rounds import Rounds
from worker.serving import Slot
from worker.traffic import Traffic

# Hashing waits for storage more than it computes.
_MIN_READERS = 4


class StopRequest:
    """Whether the process was asked to stop, and until when its batches may still finish."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._deadline = 0.0

    def ask(self, grace_s: float) -> None:
        """Ask for the end; batches in hand have grace_s seconds."""
        self._deadline = time.monotonic() + grace_s
        self._event.set()

    @property
    def is_asked(self) -> bool:
        """Whether nothing new may begin."""
        return self._event.is_set()

    @property
    def is_overdue(self) -> bool:
        """Whether a batch in hand must be handed back now."""
        return self._event.is_set() and time.monotonic() >= self._deadline


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """One worker's parts.

    Attributes:
        name: host and process, as stored with the batches it classified.
        slot: the model that serves; lent to each batch.
        rollout: keeps it the one that is active.
        readers: threads that hash files for all batches in hand.
        decoders: processes that decode for all batches in hand.
        listers: threads that list folders.
        holdings: leases of the batches and listings in hand.
        isolation: keeps others away from a batch that may kill the worker.
        traffic: what comes from the broker.
        rounds: when this process last looked for lost work.
        purges: when it last began to take what is too old to be kept.
        gauge: measures whether there is room for new work.
        stop: tells tasks that the process is to end.
    """

    settings: Settings
    database: Database
    queue: WorkQueue
    slot: Slot
    rollout: Rollout
    name: str
    readers: ThreadPoolExecutor
    decoders: DecodePool
    started_at: datetime = field(default_factory=utc_now)
    listers: Listers = field(default_factory=Listers)
    holdings: Holdings = field(default_factory=Holdings)
    isolation: Isolation = field(default_factory=Isolation)
    traffic: Traffic = field(default_factory=Traffic)
    rounds: Rounds = field(default_factory=Rounds)
    purges: Rounds = field(default_factory=Rounds)
    gauge: Gauge = field(default_factory=Gauge)
    stop: StopRequest = field(default_factory=StopRequest)

    def close_listers(self) -> None:
        """Hand on the listings in hand, and begin none."""
        self.stop.ask(0)
        self.listers.close()

    def close(self) -> None:
        """Free everything."""
        self.close_listers()
        self.readers.shutdown(cancel_futures=True)
        self.decoders.close()
        self.slot.close()
        self.queue.close()
        self.database.close()


def open_context(settings: Settings) -> WorkerContext:
    """Open the database and the broker, verify the model that serves, load the engine.

    Where a model was activated that does not load here, the slot stays empty: the rollout tries again.

    Raises:
        BundleError, EngineError, ConfigurationError: what is wrong and how to mend it.
    """
    database, slot = Database(settings.database), Slot()
    rollout = Rollout(settings, database, slot)
    rollout.begin()
    processes = settings.decode_processes or len(os.sched_getaffinity(0))
    return WorkerContext(
        settings=settings,
        database=database,
        queue=WorkQueue(settings),
        slot=slot,
        rollout=rollout,
        name=f"{socket.gethostname()}:{os.getpid()}",
        readers=ThreadPoolExecutor(max(_MIN_READERS, processes), thread_name_prefix="read"),
        decoders=DecodePool(processes),
    )
