"""What a worker process holds while it runs: built once, handed to every task."""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from core.bundle import Bundle, DecisionRule, find_serving_folder, load_bundle
from core.database import Database
from core.queue import WorkQueue
from core.settings import Settings
from worker.decoding import DecodePool
from worker.engines.choice import EngineChoice, choose_engine, load_engine
from worker.engines.protocol import Engine

# Hashing waits for storage more than it computes.
_MIN_READERS = 4
_FAKE_VERSION = "fake@0.0.0"
_FAKE_RULE = DecisionRule(threshold=0.5, abstain_low=0.4, abstain_high=0.6)


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
    def is_overdue(self) -> bool:
        """Whether a batch in hand must be handed back now."""
        return self._event.is_set() and time.monotonic() >= self._deadline


@dataclass(frozen=True, kw_only=True)
class WorkerContext:
    """One worker's parts.

    Attributes:
        name: host and process, as stored with the batches it classified.
        model_version: under which its results are stored.
        readers: threads that hash files for all batches in hand.
        decoders: processes that decode for all batches in hand.
        inferrers: threads that wait for the engine, one for each call it takes at once.
        stop: tells tasks that the process is to end.
    """

    settings: Settings
    database: Database
    queue: WorkQueue
    engine: Engine
    choice: EngineChoice
    model_version: str
    rule: DecisionRule
    name: str
    readers: ThreadPoolExecutor
    decoders: DecodePool
    inferrers: ThreadPoolExecutor
    stop: StopRequest = field(default_factory=StopRequest)

    def close(self) -> None:
        """Free everything."""
        self.readers.shutdown(cancel_futures=True)
        self.decoders.close()
        self.inferrers.shutdown(cancel_futures=True)
        self.engine.close()
        self.queue.close()
        self.database.close()


def open_context(settings: Settings) -> WorkerContext:
    """Open the database and the broker, verify the model, load the engine.

    Raises:
        BundleError, EngineError, ConfigurationError: what is wrong and how to mend it.
    """
    choice = choose_engine(settings)
    bundle = _serving_bundle(settings, choice)
    engine = load_engine(choice, bundle, settings)
    processes = settings.decode_processes or len(os.sched_getaffinity(0))
    return WorkerContext(
        settings=settings,
        database=Database(settings.database),
        queue=WorkQueue(settings),
        engine=engine,
        choice=choice,
        model_version=bundle.model_version if bundle else _FAKE_VERSION,
        rule=bundle.manifest.decision if bundle else _FAKE_RULE,
        name=f"{socket.gethostname()}:{os.getpid()}",
        readers=ThreadPoolExecutor(max(_MIN_READERS, processes), thread_name_prefix="read"),
        decoders=DecodePool(processes),
        inferrers=ThreadPoolExecutor(engine.parallel_calls, thread_name_prefix="infer"),
    )


def _serving_bundle(settings: Settings, choice: EngineChoice) -> Bundle | None:
    if choice.kind == "fake":
        return None
    return load_bundle(find_serving_folder(settings))
